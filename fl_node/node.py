"""The long-running process of one organisation: joins, takes part in every round, and ends with the federation."""

import threading
import time
from pathlib import Path

import torch

from chain.client import LedgerClient
from chain.crash import Point, crash_point
from chain.deploy import load_deployment
from chain.files import load_rules
from chain.outbox import Outbox
from chain.protocol.deployment import Deployment
from chain.protocol.errors import ConfigError
from chain.protocol.history import History
from chain.protocol.seal import domain_separator
from chain.reader import LedgerReader
from chain.relayed import RelayedClient
from chain.rpc import JsonRpc
from chain.servers import connect
from chain.signers import Signer
from fl_node.config import NodeConfig
from fl_node.data import load_records
from fl_node.dataroot import RecordSecret, data_root
from fl_node.journal import Journal
from fl_node.ledger import Ledger
from fl_node.model import build_model
from fl_node.rounds import run_round
from fl_node.session import LONGER, Report, RoundGone, Session, Tries, interruptible, retried
from fl_node.store import BlobStore

START_PATIENCE = 5.0  # seconds that a server may fail to answer at the start: longer, and its address is wrong
GWEI = 10**9  # wei
OPENING_TURN = 2.0  # seconds that a participant leaves to the one whose turn it is to open


def open_session(config: NodeConfig, report: Report, stop: threading.Event) -> Session:
    """Reads everything the node needs, cheap checks first. Raises ConfigError, TrustError or Unavailable; sends
    nothing.
    """
    rules, deployment = load_rules(config.federation), load_deployment(config.deployment)
    if str(rules.digest) != deployment.rules_digest:
        problem = f"these rules have the digest {rules.digest}, the deployment record names {deployment.rules_digest}"
        raise ConfigError(config.federation, problem, "every node needs the very file that was deployed")
    torch.set_num_threads(config.threads)
    module = build_model(rules, seed=0)
    records = load_records(config.data, rules.data)
    if len(records) > rules.limits.records:
        problem = f"{len(records)} records, and limits.records of the federation is {rules.limits.records}"
        raise ConfigError(config.data, problem, "every update from them would be excluded")
    rpc = connect(config.rpc)
    reader = LedgerReader(rpc, deployment)
    # A node that is started again must not fail because one call is lost.
    retried(
        reader.check_deployment,
        START_PATIENCE,
        lambda: interruptible(stop)(START_PATIENCE / 10),
        lambda reason: report("waiting", 0, reason=reason),
    )
    signer, store = config.signer(), BlobStore(config.blobs, create=False)
    journal = Journal(config.state)
    try:
        secret = RecordSecret.load(config.state / "secret", create=not journal.bound)
        journal.bind(deployment.chain_id, deployment.address, signer.address)
    except BaseException:
        journal.close()
        raise
    return Session(
        rules=rules,
        address=signer.address,
        domain=domain_separator(deployment.chain_id, deployment.address),
        client=open_client(config, rpc, deployment, signer, journal.outbox, stop),
        ledger=Ledger(reader, rules, journal.checkpoint(), depth=config.depth),
        store=store,
        journal=journal,
        records=records,
        data_root=data_root(records, secret),
        module=module,
        report=report,
        threads=config.threads,
        poll=config.poll,
        stop=stop,
    )


def open_client(
    config: NodeConfig,
    rpc: JsonRpc,
    deployment: Deployment,
    signer: Signer,
    outbox: Outbox,
    stop: threading.Event,
) -> LedgerClient:
    """Through the relayer, if one is named."""
    ways = config.depth, config.replace_after, interruptible(stop), round(config.max_fee * GWEI)
    options = rpc, deployment, signer, outbox, *ways
    return RelayedClient(config.relay, config.relay_patience, *options) if config.relay else LedgerClient(*options)


def run(session: Session) -> None:
    """Takes part until the federation's last round is finalized. Raises VerificationError, Unavailable or Stopped."""
    session.report("start", 0, participant=session.address, records=session.data_root.count)
    while True:
        history = session.history()
        try:
            finish_interrupted_round(session, history)
            if len(history.finalized) >= session.rules.training.rounds:
                break
            if (number := open_round(session)) is not None:
                run_round(session, number)
        except RoundGone as gone:
            session.report("reorganised", 0, reason=str(gone))
    assert history.model is not None  # noqa: S101 - a replayed ledger has one
    session.load_model(history.model)
    session.report("done", len(history.rounds), model=str(history.model), head=f"0x{history.head.hex()}")


def finish_interrupted_round(session: Session, history: History) -> None:
    """Goes through the end of the round that this node was in when it died, if that is over since.

    The node took part, so it verifies the outcome as if it had been there. Above all, one that has refused a model does
    not pick it up as the newest after a restart.
    """
    if (number := interrupted_round(session, history)) is not None:
        run_round(session, number)


def interrupted_round(session: Session, history: History) -> int | None:
    """The round that this node was in when it died, if that is over since."""
    number = session.journal.unfinished_round()
    return number if number and number <= len(history.rounds) and not history.rounds[number - 1].is_open else None


def open_round(session: Session) -> int | None:
    """The number of the open round. Opens the next one when none is open: participants take turns, the others step in
    late. None if the last round, or the one that this node died in, has ended while it looked: that comes first.
    """
    since, tries, waiting, pause = time.monotonic(), Tries(), False, 0.0
    while True:
        history = session.history()
        over = len(history.finalized) >= session.rules.training.rounds
        if over or interrupted_round(session, history) is not None:
            return None
        if history.current and history.current.is_open:
            return history.current.number
        number = len(history.rounds) + 1
        roster = sorted(who for who, member in history.members.items() if member.takes_part(number))
        if session.address in roster and len(roster) >= session.rules.ledger.min_updates:
            turn = (roster.index(session.address) - number) % len(roster)
            if time.monotonic() >= max(tries.at, since + turn * OPENING_TURN):
                crash_point(Point.OPENING)
                sent = session.send("open", number, lambda number=number: session.client.open(number))  # type: ignore[misc]
                tries.made(time.monotonic(), sent)
        elif not waiting:
            waiting = True
            session.report("waiting", number, reason=_why_not(session, history, roster))
        pause = pause or session.first_wait(len(roster))
        session.pause(pause)
        pause = min(session.poll, LONGER * pause)


def _why_not(session: Session, history: History, roster: list[str]) -> str:
    """Why this node cannot open a round."""
    needed, among = session.rules.ledger.min_updates, session.address in roster
    reason = f"{len(roster)} participants enrolled ({needed} are needed), this node among them: {among}"
    if session.address in history.members and not among:
        reason += "; its key was retired, or rotated: then name the new one in node.toml"
    depth = session.ledger.depth
    return reason + (f"; as of block {session.ledger.block}, depth = {depth!r}" if depth else "")


def load(path: Path, report: Report, stop: threading.Event) -> Session:
    return open_session(NodeConfig.load(path), report, stop)
