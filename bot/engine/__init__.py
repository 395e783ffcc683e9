"""The engine: `advance` takes one durable run as far as it goes now.

engine · flight        who may advance a run; one run being advanced, whatever hosts answer and when
planner                a step and what is known → an effect, as data
preconditions          what a plan rests on, and what of that is no longer so
standing               whether a plan still stands, until its first change leaves
rails · leaving        what is ready to go, held against the guard; written down before it goes, or kept from a drain
preparing · judging    from a call to the command that leaves; what its outcome means
vault                  secrets by name, put into a command on its way out
balancers · rounds     what load balancers say of drained servers; drains whose run has ended, held against that
"""
