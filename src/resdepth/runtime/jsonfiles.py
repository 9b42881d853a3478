"""JSON files that nobody vouches for: their text, and whether it is what a schema asks for."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from resdepth.errors import InputProblems, Problem, location, unusable
from resdepth.runtime.paths import MAX_TEXT_BYTES, read_text

Value = TypeVar("Value")
DEEPEST_NESTING = 50
SHOWN_CHARACTERS = 60
SHOWN_PROBLEMS = 10
LARGEST_NUMBER = 2**62  # of pixels, of metres: far beyond any of ours, and within a float
_STRING_OR_CONSTANT = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?|-?Infinity|NaN', re.DOTALL)


def _nan_of_null(value: Any) -> Any:
    return float("nan") if value is None else value


def _credible(value: float) -> float:
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("too large; is the file damaged?")
    return value


Number = Annotated[float, BeforeValidator(_nan_of_null), AfterValidator(_credible)]
"""A number in a file of ours, which has null for NaN."""
Count = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
"""How many there are of something, in a file of ours."""


def read_json(path: Path, *, at_most: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: the file.
        at_most: bytes; a larger file is refused.

    Raises:
        InputProblems: if it cannot be read, or is no JSON object.
    """
    try:
        return parse_json(read_text(path, at_most=at_most))
    except ValueError as error:
        raise unusable(path, str(error)) from error


def parse_json(text: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: if it is no JSON, no object, holds a key twice, or what no file of ours needs: infinite
            numbers, half characters, deep nesting.
    """
    try:
        content = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(content, ensure_ascii=False).encode()
        if _depth(content) > DEEPEST_NESTING:
            raise ValueError(f"nested more than {DEEPEST_NESTING} levels deep")
    except _ConstantError as error:
        raise ValueError(f"{_place_of_constant(text)}{error} is not a number in JSON") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"line {error.lineno}, column {error.colno}: not valid JSON ({error.msg})"
        ) from error
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character ({error.object[error.start]!r})") from error
    except RecursionError as error:
        raise ValueError(f"nested more than {DEEPEST_NESTING} levels deep") from error
    if not isinstance(content, dict):
        raise ValueError(f"expected an object {{...}}, found {text.strip()[:20]!r}")  # noqa: TRY004 - the text is at fault
    return content


def demand(kind: type[Value], content: Any, path: Path) -> Value:
    """The content as a schema has it: a pydantic model or a dataclass.

    Raises:
        InputProblems: each value that is not as it should be, with its place in the file; the first few.
    """
    with wrong_values_named(path):
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)


@contextmanager
def wrong_values_named(path: Path) -> Iterator[None]:
    """Turn what pydantic finds wrong with the content of a file into problems; the first few."""
    try:
        yield
    except ValidationError as error:
        raise _first_problems(error, path) from error


def _first_problems(error: ValidationError, path: Path) -> InputProblems:
    found = error.errors(include_url=False, include_context=False)
    problems = [Problem(f"{path}: {location(one['loc'])}", described(one)) for one in found[:SHOWN_PROBLEMS]]
    if len(found) > SHOWN_PROBLEMS:
        problems.append(Problem(str(path), f"and {len(found) - SHOWN_PROBLEMS} more values; is it damaged?"))
    return InputProblems(problems)


def described(found: ErrorDetails) -> str:
    """What is wrong with a value, and the value."""
    if found["type"] == "missing":
        return "missing"
    return f"found {shown(found['input'])}; {expected(found)}"


def expected(found: ErrorDetails) -> str:
    """What a wrong value should be, in pydantic's words."""
    if found["type"] == "model_type":
        return "should be an object {...}"
    return found["msg"].removeprefix("Value error, ").replace("Input should be", "should be")


def shown(value: object) -> str:
    """The beginning of a value, however large it is, as JSON has it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**SHOWN_CHARACTERS:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, dict | list | tuple):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value[: 2 * SHOWN_CHARACTERS] if isinstance(value, str) else value, default=str)
    return f"{text[:SHOWN_CHARACTERS]}..." if len(text) > SHOWN_CHARACTERS else text


class _ConstantError(ValueError):
    """NaN, Infinity or -Infinity, of which JSON knows nothing."""


def _refuse_constant(name: str) -> Any:
    raise _ConstantError(name)


def _place_of_constant(text: str) -> str:
    """Line and key of the first NaN or infinity: "line 3, mean: "."""
    key = ""
    for found in _STRING_OR_CONSTANT.finditer(text):
        if found[1] is None:
            line = text.count("\n", 0, found.start()) + 1
            return f"line {line}, {key}: " if key else f"line {line}: "
        key = found[1] if found[2] else key
    return ""


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((repeated, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {repeated[:SHOWN_CHARACTERS]!r} occurs twice in one object; keep one")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:SHOWN_CHARACTERS]} is too large")
    return value


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0)
