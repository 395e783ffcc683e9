"""Sickbay: alerts in, runbooks over SSH, a human asked where it must, the result in Slack.

The map, from the front door down; imports go down only.

    cli                     the front door: what one types in a terminal
    demo · sim              the whole with a pretend Slack and a pretend GPU fleet
    doctor                  what is missing or wrong, in plain words
    app · follow · logs     builds, starts and stops the whole; runs shown in the terminal; log lines
    web · slack             the doors: async, they parse, store and acknowledge
    commands · terminal     what people can say, one grammar for all doors; cards in the terminal
    dispatch · delivery     alert → incident → run; who calls `advance`, and when
    rehearsal               tests of runbooks, replayed without a host
    engine · judging        one effect, one transaction; what an outcome means
    planner                 a step and what is known → an effect, as data
    store · ssh · messages  all SQL; the one door to the hosts; state → cards
    config · library        sickbay.yaml and the environment; the runbooks that were found
    shipped                 where the shipped runbooks and templates lie
    lint                    what can be said of a runbook without running it
    steps · facts           step kinds and parsers: pure
    program                 what a run does next: a pure function of what was recorded
    intake                  monitors' formats → alerts
    incident approval run plan alert route runbook effect inventory    the nouns
    template sandbox quoting schema document    expressions, values for the shell, strict YAML
    duration verdict wording errors             ground
"""
