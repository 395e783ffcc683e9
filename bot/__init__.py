"""Sickbay: alerts in, runbooks over SSH, a human asked where it must, the result in Slack.

The map, from the front door down; imports go down only.

    cli                     the front door: what one types in a terminal
    demo · sim              the whole with a pretend Slack and a pretend GPU fleet
    desk · follow           what people say there, and what was started, followed to its end
    doctor · workshop       what is missing or wrong, in plain words; runbooks linted and rehearsed
    explain                 what leads to a runbook, who has to agree, what its steps see
    enroll                  a host's key compared by a person, and known from then on
    audit · export          is the timeline what was written; an incident told to who was not there
    serve · app             the whole, started and stopped
    web · slack             the doors: async, they parse, store and acknowledge
    gauge                   how far a run on many hosts is, in one line
    terminal · assembly     cards in the terminal; the parts put together
    login · roster          who is at the terminal; who sickbay.yaml names now
    logs                    log lines
    commands · grammar      what people can say: doing it, reading it; the same words at all doors
    deciding · halting      approve, deny, cancel; freeze, thaw, the breaker's reset: who may, and what comes of it
    views · reporting       what a message shows, and what an incident's report tells, read from the store
    dispatch · delivery     alert → incident → run; who calls `advance`, and when
    timetable               what is due by the clock → run; what such runs found → alert
    rehearsal               tests of runbooks, replayed without a host
    rounds                  drains whose run has ended, held against what HAProxy says
    engine · flight         who may advance a run; one run being advanced, whatever hosts answer and when
    rails · leaving         what is ready to go, held against the guard; written down before it goes, or kept from a drain
    preparing · judging     from a call to the command that leaves; what its outcome means
    balancers               what load balancers say of drained servers, asked outside of any run
    planner                 a step and what is known → an effect, as data
    preconditions           what a plan rests on, and what of that is no longer so
    vault                   secrets by name, put into a command on its way out
    store · ssh · messages  all SQL; the one door to the hosts; state → cards
    tokens                  Slack's tokens and the webhook's secret, from the environment
    config · settings       sickbay.yaml and the environment: found and read; its sections
    routing                 which route takes an alert, and which run that asks for
    jump · ssh_config       the jump hosts on the way to a machine; OpenSSH's own configuration, asked of it
    exposure                secrets that stand where they do not belong
    library · lint          the runbooks that were found; what can be said of one without running it
    shipped                 where the shipped runbooks and templates lie
    steps · facts           step kinds and parsers: pure
    witness                 what a host wrote down itself, at the times that this was by our clock
    program                 what a run does next: a pure function of what was recorded
    intake                  monitors' formats → alerts
    fleet                   what many hosts said, folded: host sets, spans of numbers, the odd ones
    authority · permissions who somebody is now; who may do what, on which runbooks and hosts: pure
    record · lacking        what a run has done; evidence that could not be had
    report                  the shape of an incident's report
    trigger · schedule      what starts a runbook; when the clock does: cron, and one pure step of it
    inputs · limits         the base of what people write in YAML, and what a run is given; how far a runbook may go
    maintenance             when automation keeps out
    evidence                what is kept of a host before it is changed
    ending                  how a run ends, and in which words
    drain                   a server out of traffic: whose it is, and who may touch it
    rollback                what is undone on a host that did not come through
    autonomy                when `mode: auto` counts
    result · counting       what became of a host; how many replicas are ready
    guard                   may a run act on a host now: locks, freeze, maintenance, breaker, cooldown, limits, capacity
    freshness               is what was seen of a host still good enough to change it
    incident approval run plan alert route schedule_section secret_section runbook effect inventory    the nouns
    template sandbox pattern quoting schema document    expressions, values for the shell, strict YAML
    secret                  a secret as plans know it: by reference
    outlet                  what this process writes to its terminal, masked
    mask · shapes           secrets taken out of whatever leaves; the forms they come in
    chain clock atomic      the hashes of the timeline; what a host's times are by ours; files written whole or not at all
    duration verdict wording names errors printable   ground
"""
