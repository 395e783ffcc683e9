"""May a run act on a host now? Pure; what is remembered is the store's.

decision       locks, freeze, maintenance, breaker, cooldown, limits, capacity: one answer a host, with its words
drain          a server out of traffic: whose it is, and who may touch it
freshness      is what was seen of a host still good enough to change it
counting       how many replicas are ready
maintenance    when automation keeps out
autonomy       when `mode: auto` counts
"""
