"""The runbook language: what its text may say, and what its words mean.

document · schema            strict YAML → plain data → a model, with every mistake at once at its line
runbook                      the model
inputs · trigger · limits    what a run is given; what starts one; how far one may go
schedule                     when the clock does: cron, and one pure step of it
template · sandbox           expressions and `{{ values }}`; what they may do
quoting                      where a value stands in shell text
argument · piped             what a command does with its arguments; with what is piped into it
pattern                      regular expressions that cannot hang
"""
