"""One way each to run one command on many hosts; every file is started as `python -m bench.ssh.clients.NAME`."""
