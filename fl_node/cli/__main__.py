from fl_node.cli.main import main

main()
