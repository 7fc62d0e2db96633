"""From the model a client asks for to what is sent to whom. Only the configuration knows model names."""

from dataclasses import dataclass

from gateway_addon.api.base import ApiKind, Refusal
from gateway_addon.config import AutoTarget, Model, Provider, ReverseTarget, Settings


@dataclass(slots=True, frozen=True)
class Choice:
    """What a requested model stands for."""

    provider: Provider
    upstream_model: str
    effort: str | None = None
    """A reasoning effort to ask for unless the client did."""
    free: bool = False
    """The client is to see the id it asked for, and no cost."""


def choose(
    model: str, kind: ApiKind, mode: str | None, settings: Settings, reverse_target: ReverseTarget
) -> Choice | Refusal:
    """Resolve a public model id; `mode` is the request header `x-kilocode-mode`.

    Refused, all with 404: an id under a custom prefix that `[models]` does not name, no provider, and a kind that the
    model or its provider does not serve.
    """
    auto = settings.auto_model(model)
    target = auto.modes.get(mode or "", auto.default) if auto else AutoTarget(model=model)
    entry = settings.model(target.model)
    if entry is None:
        if settings.is_custom(target.model):
            return Refusal(404, f"there is no model {model!r}", "model_not_found")
        entry = Model()
    provider = choose_provider(kind, settings, reverse_target, entry.provider)
    if isinstance(provider, Refusal):
        return provider
    if entry.api_kinds is not None and kind.NAME not in entry.api_kinds:
        return Refusal(404, f"the model {model!r} does not serve {kind.NAME}", "kind_not_served")
    return Choice(provider, entry.model or target.model, target.effort, entry.free)


def choose_provider(
    kind: ApiKind | None, settings: Settings, reverse_target: ReverseTarget, name: str | None = None
) -> Provider | Refusal:
    """The provider called `name`, or the default one; refused if there is none, or if it does not serve the kind."""
    kind_name = kind.NAME if kind else None
    provider = settings.providers[name] if name else settings.default_provider_for(kind_name, reverse_target)
    if provider is None:
        return Refusal(404, f"no provider configured for {reverse_target[1]}", "no_provider")
    if kind_name is not None and kind_name not in provider.api_kinds:
        return Refusal(404, f"the provider {provider.id!r} does not serve {kind_name}", "kind_not_served")
    return provider
