"""`neuromem digest` and `emotion`: what many memories show together, and how somebody feels."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from neuromem.cli.models import DEFAULT_LLM, open_llm
from neuromem.cli.shared import MEMORY, Asked, AsOf, BaseUrl, Model, Timezone, command, view_of
from neuromem.cli.times import local, optional_moment, zone
from neuromem.cli.timetravel import By

if TYPE_CHECKING:
    from rich.console import RenderableType

    from neuromem import DigestResult, EmotionPeriod, EmotionProfile, Memory
    from neuromem.facades import Reader


def register(app: typer.Typer) -> None:
    for function in (digest, emotion):
        command(app, panel=MEMORY)(function)


async def digest(
    asked: Asked,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many of the new memories are read.")] = 50,
    model: Model = DEFAULT_LLM,
    base_url: BaseUrl = None,
    timezone: Timezone = None,
) -> None:
    """Reflect on what is new: insights that several memories show together, and how the user feels.

    What was read once is not read again. The key comes from OPENAI_API_KEY.
    """
    llm = open_llm(model, base_url)
    async with asked.open(llm=llm, timezone=zone(timezone)) as nm:
        done = await nm.digest(asked.user, limit=limit)
        if asked.as_json:
            return asked.print_json(done.to_dict())
        asked.say(_summary(done, asked.whose))
        for number, insight in enumerate((*done.insights, *done.restated), 1):
            asked.draw(await _insight(nm, asked.user, number, insight))
    if done.emotion is not None and done.llm_calls > 1 and done.emotion.latest_state:
        asked.say(f"lately: {done.emotion.latest_state}")


async def emotion(
    asked: Asked,
    *,
    by: Annotated[By, typer.Option("--by", help="How long one point of the curve is.")] = By.WEEK,
    as_of: AsOf = None,
    timezone: Timezone = None,
) -> None:
    """Show how the user feels: of late, over time, and as a curve."""
    known, name = optional_moment(as_of, "--as-of"), zone(timezone)
    async with asked.open(timezone=name) as nm:
        view = view_of(nm, known)
        found = await view.emotion_profile(asked.user)
        periods = await view.emotion_timeline(asked.user, granularity=by.value)
    if asked.as_json:
        shown = {"as_of": known, "timezone": name, **found.to_dict()}
        return asked.print_json(shown | {"timeline": [period.to_dict() for period in periods]})
    asked.as_of_line(known)
    if not found.annotated:
        return asked.say(f"no memory tells of an emotion{asked.whose}")
    asked.draw(_profile(found))
    if len(periods) > 1:
        asked.draw(_curve(periods, name))


def _summary(done: "DigestResult", whose: str) -> str:
    if not done.read:
        return f"nothing new to reflect on{whose}"
    more = f" ({done.unread:,} older ones were not)" if done.unread else ""
    dropped = sum(item.count for item in done.dropped)
    left_out = f", {dropped} dropped" if dropped else ""
    return (
        f"{done.read} memories read{more}: {len(done.insights)} new insights, "
        f"{len(done.restated)} told again{left_out} (undo with --origin {done.origin})"
    )


async def _insight(nm: "Reader", user: str, number: int, insight: "Memory") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    from neuromem.cli import render

    rests_on = [await nm.get_memory(user, source.id) for source in insight.sources if source.kind == "memory"]
    lines = [
        Text(f"   ← {render.short(memory.memory_id)}  {render.one_line(memory.content)}", style="dim")
        for memory in rests_on
        if memory is not None
    ]
    return Group(render.memory_entry(number, insight, datetime.now(UTC)), *lines)


def _profile(found: "EmotionProfile") -> "RenderableType":
    from neuromem.cli import render

    def felt(valence: float | None, arousal: float | None, count: int) -> str:
        if valence is None or arousal is None:
            return "nothing was felt"
        return f"valence {valence:+.2f}, arousal {arousal:.2f} ({render.counted(count, 'memory', 'memories')})"

    when = found.latest_state_updated_at
    return render.details(
        [
            ("last 14 days", felt(found.latest_state_valence, found.latest_state_arousal, found.recent)),
            ("in words", found.latest_state or ""),
            ("words of", "" if when is None else f"{local(when)} ({render.ago(when)})"),
            ("over time", felt(found.valence_avg, found.arousal_avg, found.annotated)),
            ("most often", ", ".join(f"{item.label} {item.share:.0%}" for item in found.dominant_emotions)),
            (
                "stirred by",
                ", ".join(f"{t.trigger} ({t.emotion})" if t.emotion else t.trigger for t in found.emotion_triggers),
            ),
        ]
    )


def _curve(periods: "list[EmotionPeriod]", name: str) -> "RenderableType":
    from rich.padding import Padding

    from neuromem.checks import timezone
    from neuromem.cli.drawing import lines

    here = timezone(name)
    curves = [("valence", [p.valence for p in periods]), ("arousal", [p.arousal for p in periods])]
    drawn = lines([period.start.astimezone(here) for period in periods], curves, bounds=(-1.0, 1.0))
    return Padding(drawn, (1, 0, 0, 0))
