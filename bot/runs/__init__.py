"""A run and what became of it: nouns, all pure.

run · plan · approval        one runbook on its hosts, once; what it would do; who may say yes to that
record · result              what it has done; what became of each host
column                       how far the hosts of one section have come, step by step
looks                        from which number on what was seen counts, where it was looked at again
lacking · rollback           evidence that could not be had; what is undone on a host that did not come through
ending                       how it ends, and in which words
"""
