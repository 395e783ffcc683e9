"""SSH fan-out, ours beside its peers: `make bench-ssh`, or `python -m bench.ssh --help`.

One real OpenSSH server on loopback addresses, the same hosts, key, known_hosts and command for everybody, 64 hosts at
once where a client lets one choose. Each client runs in a process of its own and reports what it used itself: the
server takes most of the two cores, so wall times say less than processor times, and only ratios from one run count.

farm.py     the server          clients/    one small file per client
task.py     what a client is told, and how a pass is measured inside its process
peers.py    who takes part, and who cannot      measure.py  one client's process, watched from outside
report.py   tables and aims     wrapper.py  what our wrappers around a command cost
"""
