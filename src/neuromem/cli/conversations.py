"""`neuromem say`, `sessions` and `messages`: conversations."""

from contextlib import suppress
from typing import Annotated

import typer

from memground.errors import UnavailableError
from neuromem.cli.shared import MEMORY, Asked, AsOf, Limit, Origin, command, read_texts, view_of
from neuromem.cli.times import local, optional_moment

SessionId = Annotated[str, typer.Option("--session", "-s", metavar="SESSION", help="The conversation it belongs to.")]

_PATIENCE = 30.0  # seconds; the vector is made later if it takes longer


def register(app: typer.Typer) -> None:
    for function in (say, sessions, messages):
        command(app, panel=MEMORY)(function)


async def say(
    asked: Asked,
    text: Annotated[str, typer.Argument(help="What was said; - reads one message a line from stdin.")],
    *,
    role: Annotated[str, typer.Option("--role", "-r", help="Who speaks: user, assistant, …")] = "user",
    session: SessionId = "default",
    speaker: Annotated[str | None, typer.Option(help="The speaker's name, where that says more.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When it was said, if not now.")] = None,
    origin: Origin = "cli",
) -> None:
    """Store what was said in a conversation."""
    from neuromem.types import NewMessage

    said_at = optional_moment(at, "--at")
    new = [NewMessage(role, line, timestamp=said_at, speaker=speaker) for line in read_texts(text)]
    async with asked.open(background=True) as nm:
        stored = await nm.conversations.add_messages_batch(asked.user, new, session_id=session, origin=origin)
        with suppress(UnavailableError):
            await nm.wait_idle(_PATIENCE)
        waiting = (await nm.background_status(asked.user)).waiting
    if asked.as_json:
        return asked.print_json({"messages": [message.to_dict() for message in stored], "waiting": waiting})
    from memground.text import counted

    left = f"; {counted(waiting, 'vector')} will follow in the background" if waiting else ""
    asked.say(f"stored {counted(len(stored), 'message')} in session {session}{left}")


async def sessions(asked: Asked, *, as_of: AsOf = None) -> None:
    """List the conversations, the last active first."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        found = await view_of(nm, known).conversations.list_sessions(asked.user)
    if asked.as_json:
        return asked.print_json({"as_of": known, "sessions": [session.to_dict() for session in found]})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not found:
        asked.say(f"no conversations{asked.whose}")
    table = render.grid({"overflow": "fold"}, {"justify": "right", "no_wrap": True}, {"style": "dim", "no_wrap": True})
    for session in found:
        count = render.counted(session.message_count, "message")
        table.add_row(
            render.one_line(session.session_id),
            count,
            f"{session.first_message_at.date()} to {session.last_message_at.date()}",
        )
    asked.draw(table)


async def messages(
    asked: Asked,
    session: Annotated[str, typer.Argument(help="A conversation, as sessions lists it.")] = "default",
    *,
    limit: Limit = 50,
    after: Annotated[int | None, typer.Option(metavar="SEQ", help="Only messages behind this place.")] = None,
    as_of: AsOf = None,
) -> None:
    """Show the messages of a conversation, in order."""
    known = optional_moment(as_of, "--as-of")
    async with asked.open() as nm:
        found = await view_of(nm, known).conversations.get_session_messages(
            asked.user, session, limit=limit, after=after
        )
    if asked.as_json:
        return asked.print_json({"as_of": known, "messages": [message.to_dict() for message in found]})
    from neuromem.cli import render

    asked.as_of_line(known)
    if not found:
        asked.say(f"no messages in session {session}{asked.whose}")
    table = render.grid(
        {"style": "cyan", "justify": "right"},
        {"style": "dim", "no_wrap": True},
        {"no_wrap": True},
        {"overflow": "fold"},
    )
    for message in found:
        who = render.one_line(message.speaker or message.role)
        table.add_row(str(message.seq), local(message.timestamp)[:16], who, render.clean(message.content))
    asked.draw(table)
    if len(found) == limit:
        asked.say(f"more: neuromem messages {session} --after {found[-1].seq}{asked.options()}")
