"""The compiler wrapper, and that the committed artifact is what the sources give."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from chain import artifacts, compiler
from chain.protocol.errors import ConfigError
from chain.toolchain import LOCAL, tool


def solc(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("node"), LOCAL / "solc", *arguments], input=stdin, capture_output=True, text=True, check=False
    )


def job(text: str) -> str:
    outputs = {"*": {"*": ["evm.bytecode.object"]}}
    return json.dumps(
        {"language": "Solidity", "settings": {"outputSelection": outputs}, "sources": {"A.sol": {"content": text}}}
    )


def messages(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return "".join(error["message"] for error in json.loads(done.stdout).get("errors", []))


def test_compiling_again_elsewhere_gives_the_committed_artifact_byte_for_byte(tmp_path: Path) -> None:
    shutil.copytree(compiler.CONTRACTS / "src", tmp_path / "src")
    assert compiler.encode(compiler.compile_contract(tmp_path)) == artifacts.PATH.read_bytes()


def test_check_tells_a_stale_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PATH", tmp_path / "RoundLedger.json")
    monkeypatch.setattr(compiler, "compile_contract", lambda: {"contractName": "RoundLedger"})
    assert compiler.main(["--check"]) == 1
    assert compiler.main([]) == 0
    assert compiler.main(["--check"]) == 0
    (tmp_path / "RoundLedger.json").write_text("{}")
    assert compiler.main(["--check"]) == 1


def test_a_broken_source_is_a_config_error_with_the_compilers_words(tmp_path: Path) -> None:
    shutil.copytree(compiler.CONTRACTS / "src", tmp_path / "src")
    source = tmp_path / "src" / "RoundLedger.sol"
    source.write_text(source.read_text().replace("state.commits = ", "state.comits = "))
    with pytest.raises(ConfigError) as caught:
        compiler.compile_contract(tmp_path)
    assert "src/RoundLedger.sol" in str(caught.value)
    assert "comits" in str(caught.value)


def test_no_sources_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Solidity sources"):
        compiler.compile_contract(tmp_path)


def test_the_artifact_names_its_compiler_and_sources() -> None:
    artifact = artifacts.load()
    assert artifact.compiler_version == "0.8.37+commit.f401782d"
    assert artifact.compiler_settings == compiler.SETTINGS
    assert artifact.contract_name == "RoundLedger"
    assert "src/RoundLedger.sol" in artifact.sources
    assert "@openzeppelin/contracts/utils/cryptography/EIP712.sol" in artifact.sources
    assert not any(name.startswith(("/", ".")) for name in artifact.sources)


def test_the_runtime_matches_whatever_the_immutables_hold() -> None:
    artifact = artifacts.load()
    code = bytearray(artifact.deployed_bytecode)
    assert artifacts.runtime_matches(bytes(code))
    for start, length in artifact.immutable_references:
        code[start : start + length] = b"\xab" * length
    assert artifacts.runtime_matches(bytes(code))


def test_the_runtime_does_not_match_when_any_other_byte_differs() -> None:
    artifact = artifacts.load()
    code = artifact.deployed_bytecode
    masked = {place for start, length in artifact.immutable_references for place in range(start, start + length)}
    for place in range(0, len(code), 97):
        altered = code[:place] + bytes([code[place] ^ 1]) + code[place + 1 :]
        assert artifacts.runtime_matches(altered) == (place in masked)
    assert not artifacts.runtime_matches(code[:-1])
    assert not artifacts.runtime_matches(code + b"\x00")
    assert not artifacts.runtime_matches(b"")


def test_the_wrapper_answers_version_like_a_native_compiler() -> None:
    done = solc("--version")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "Version: 0.8.37+commit.f401782d.Linux.g++"


def test_the_wrapper_exits_with_zero_and_reports_errors_in_the_json() -> None:
    assert "Expected" in messages(solc("--standard-json", stdin=job("contract {")))


def test_the_wrapper_reads_imports_below_the_given_folders_only(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "extra").mkdir()
    (tmp_path / "base" / "B.sol").write_text("contract B {}")
    (tmp_path / "extra" / "C.sol").write_text("contract C {}")
    (tmp_path / "secret.sol").write_text("contract S {}")
    (tmp_path / "base" / "link.sol").symlink_to(tmp_path / "secret.sol")
    folders = ["--base-path", str(tmp_path / "base"), "--include-path", str(tmp_path / "extra")]

    wanted = 'import "B.sol"; import "C.sol"; contract A is B, C {}'
    assert "not found" not in messages(solc("--standard-json", *folders, stdin=job(wanted)))
    for name in ("../secret.sol", str(tmp_path / "secret.sol"), "link.sol"):
        assert "not found" in messages(solc("--standard-json", *folders, stdin=job(f'import "{name}";'))), name
    assert "not found" in messages(solc("--standard-json", stdin=job('import "B.sol";')))


def test_the_wrapper_refuses_options_that_it_does_not_know() -> None:
    done = solc("--combined-json", "abi")
    assert done.returncode == 1
    assert "unrecognised option" in done.stderr
