"""What the columns of a table of recordings are called, and which of them is meant by which role."""

from collections.abc import Sequence
from pathlib import Path

from light_sernet_kd.errors import UserError, choose, nfc
from light_sernet_kd.registries.dimensions import DIMENSIONS, dimension_name

REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("id", "session", "dialog", "transcript", "split", "sex")
# Listeners' ratings, which are read where they are asked for.
RATINGS = tuple(DIMENSIONS)
ROLES = REQUIRED + OPTIONAL + RATINGS
# What other tables call these columns; their own name wins.
COMMON_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path", "file_id", "fname", "wav", "wav_file"),
        *("wav_path", "wavfile", "audio", "audio_file", "audio_path", "audiofile", "recording", "clip"),
    ),
    "emotion": ("label", "emotion_label", "emotions", "emo", "class", "category"),
    "speaker": (
        *("spk", "speaker_id", "speakerid", "spk_id", "spkid", "speaker_name", "actor", "actor_id"),
        *("talker", "client_id", "subject", "subject_id"),
    ),
    "session": ("session_id", "sessionid"),
    "dialog": ("dialogue", "dialog_id", "dialogue_id", "conversation", "conversation_id"),
    "transcript": ("transcription", "text", "raw_text", "sentence", "transcript_text"),
    "split": ("subset", "partition"),
    "sex": ("gender",),
    **{name: dimension.aliases for name, dimension in DIMENSIONS.items()},
}


def parsed(columns: Sequence[str]) -> dict[str, str]:
    """Role → name of its column, of `role=name`.

    Raises:
        UserError: no `role=name`, an unknown role, or a role twice.
    """
    name_by_role: dict[str, str] = {}
    for text in columns:
        role, equals, name = (part.strip() for part in text.partition("="))
        if not equals or not role or not name:
            raise UserError(f"expected a column such as path=file_id, found {text!r}.")
        role = choose("role of a column", dimension_name(role), ROLES)
        if name_by_role.setdefault(role, name) != name:
            raise UserError(f"--columns names two columns for {role}: {name_by_role[role]} and {name}.")
    return name_by_role


def places_by_role(
    path: Path, header: Sequence[str], columns: Sequence[str] = (), *, required: Sequence[str] = REQUIRED
) -> dict[str, int]:
    """Role → place of its column in the header.

    Args:
        required: roles that a table must have.

    Raises:
        UserError: a column that is needed or asked for is missing, or several may be meant.
    """
    places = {name.lower(): at for at, name in reversed(list(enumerate(header))) if name}
    name_by_role = parsed(columns)
    place_by_role: dict[str, int] = {}
    for role in ROLES:
        if role in name_by_role:
            name = nfc(name_by_role[role]).lower()
            if name not in places:
                raise UserError(
                    f"{path}: there is no column {name_by_role[role]} for {role}; "
                    f"found {','.join(header) or 'nothing'}."
                )
            place_by_role[role] = places[name]
        elif role in places:
            place_by_role[role] = places[role]
        elif several := [name for name in COMMON_NAMES.get(role, ()) if name in places]:
            free = [name for name in several if places[name] not in place_by_role.values()]
            if len(free) > 1:
                listed = " or ".join(header[places[name]] for name in free)
                raise UserError(
                    f"{path}: {role} may be the column {listed}: say which, such as "
                    f"--columns {role}={header[places[free[0]]]}."
                )
            if free:
                place_by_role[role] = places[free[0]]
    if missing := [role for role in required if role not in place_by_role]:
        example = ",".join(f"{role}=NAME" for role in missing)
        raise UserError(
            f"{path}: the header lacks {', '.join(missing)}; expected at least {','.join(required)}, "
            f"found {','.join(header) or 'nothing'}. If a column has another name: --columns {example}."
        )
    return place_by_role
