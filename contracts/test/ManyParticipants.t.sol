// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../src/interfaces/IRoundLedger.sol";
import {LedgerTest} from "./utils/LedgerTest.sol";

/// @notice Nothing ends at 256 participants.
contract ManyParticipantsTest is LedgerTest {
    function test_threeHundred_relayedAndDirect() public {
        address[] memory all = manyActors(300);
        bytes memory verdicts = new bytes(300);
        for (uint256 i = 0; i < 300; ++i) {
            enrol(all[i]);
            verdicts[i] = 0x01;
        }
        vm.prank(all[299]);
        ledger.open(1);
        assertTaken(ledger.relayCommits(1, signedCommits(1, part(all, 0, 150))));
        for (uint256 i = 150; i < 300; ++i) {
            commit(1, all[i]);
        }
        assertTaken(ledger.relayReveals(1, openings(1, part(all, 150, 300))));
        for (uint256 i = 0; i < 150; ++i) {
            reveal(1, all[i]);
        }
        vm.assertEq(ledger.currentRound().reveals, 300);
        uint256 needed = ledger.quorum(300);
        bytes32 model = modelOf(1);
        assertTaken(
            ledger.relayAttestations(
                1, model, verdicts, signedAttestations(1, part(all, 300 - needed + 1, 300), verdicts)
            )
        );
        assertPhase(IRoundLedger.Phase.Attest);
        vm.prank(all[0]);
        ledger.attest(1, model, verdicts);
        vm.assertEq(ledger.model(), model);
    }

    function part(address[] memory all, uint256 from, uint256 to) private pure returns (address[] memory some) {
        some = new address[](to - from);
        for (uint256 i = from; i < to; ++i) {
            some[i - from] = all[i];
        }
    }
}
