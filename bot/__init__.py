"""Sickbay: alerts in, runbooks over SSH, a human asked where it must, the result in Slack.

The map, from the front door down; imports go down only. A name with a slash is a room of several files, and its
`__init__` says what stands where.

    cli/                      what one types in a terminal
    sim/                      a pretend Slack and a pretend GPU fleet, for the demo and the tests
    app                       the whole, started and stopped
    web/ · slack/             the doors: async, they parse, store and acknowledge
    assembly                  the parts, read from a configuration and put together
    commands/                 what people can say, the same at all doors
    dispatch · timetable/     alert → incident → run; what is due by the clock → run, and what such runs found → alert
    delivery · rehearsal/     who advances runs, and when; tests of runbooks, replayed without a host
    roster                    who sickbay.yaml names now
    engine/                   one durable run, advanced: planned, guarded, sent, judged, recorded
    views                     what a message shows, read from the store
    store/ · ssh/ · messages/ all SQL; the one door to the hosts; state → cards
    config/                   sickbay.yaml and the environment
    exposure                  secrets that stand where they do not belong
    library · lint            the runbooks that were found; what can be said of one without running it
    steps/ · facts/           step kinds and parsers: pure
    program · intake          what a run does next; monitors' formats → alerts
    guard/                    may a run act on a host now?
    people/                   who somebody is, and what they may do
    runs/                     a run, its plan, its approval, and what became of it
    witness · evidence        what a host wrote down itself; what is kept of it before it is changed
    alert finding incident route inventory fleet effect    the nouns; `effect` is what a step asks of a host, as data
    language/                 the runbook language: strict YAML, its model, its expressions and values
    secrets/                  known, by reference; masked wherever something leaves
    report                    the shape of an incident's report
    chain clock atomic duration verdict wording names shipped errors printable    ground
"""
