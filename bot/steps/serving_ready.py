"""`serving.ready`: does this replica take traffic now?

Where the host has a place at a load balancer (`vars.haproxy`), HAProxy's word counts: up, and neither drained nor in
maintenance. Where it has none, one real token does. Whatever else is heard is no: a floor of ready replicas counts
what is known to be ready, and nothing else.
"""

from pydantic import Field

from bot.effect import Finished
from bot.language.inputs import Noun
from bot.steps import haproxy_state, llm_completion
from bot.steps.http import Port
from bot.steps.kind import Context, Effect, Judgement, Kind


class Arguments(Noun):
    """What stands under `with`."""

    port: Port = Field(8000, description="of the API, where the host is at no load balancer")


def plan(arguments: Arguments, context: Context) -> Effect:
    """Ask the load balancer, or the model."""
    if _balanced(context):
        return haproxy_state.plan(haproxy_state.StateArguments(), context)
    return llm_completion.plan(llm_completion.Arguments(port=arguments.port), context)


def judge(arguments: Arguments, answer: Finished, context: Context) -> Judgement:
    """Say what it means."""
    if _balanced(context):
        return haproxy_state.judge(haproxy_state.StateArguments(), answer, context)
    return llm_completion.judge(llm_completion.Arguments(port=arguments.port), answer, context)


def _balanced(context: Context) -> bool:
    return "haproxy" in context["host"]["vars"]


KIND = Kind(
    says="Tells whether a replica takes traffic: by its load balancer, or where it has none by one token.",
    arguments=Arguments,
    plan=plan,
    judge=judge,
)
