"""The configuration: sickbay.yaml and the environment, found, read, and held against the runbooks.

config                              the whole, checked
settings                            its sections; haproxy_section, secret_section and schedule_section have rules of their own
tokens                              Slack's tokens and the webhook's secret, from the environment
routing                             which route takes an alert, and which run that asks for
jump · ssh_config                   the jump hosts on the way to a machine; OpenSSH's own configuration, asked of it
"""
