"""The `roundledger` command: reads options, calls one function, turns errors into exit codes; decides nothing.

    interrupted what Ctrl-C does
    main        the command itself, and what an error means
    options     options and helpers that several commands share
    operator    devnet, key, deploy, member
    member      node, classify
    auditor     status, audit

Heavy parts (torch, eth-account) are imported by the commands that need them, so `status` and `audit` start fast.
"""
