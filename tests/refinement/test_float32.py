"""Float32 that is float32, whatever the program around has chosen."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from resdepth.refinement import engine
from resdepth.refinement.engine import unrounded_float32

BACKENDS: Any = torch.backends
SETTINGS = (
    (), ("cuda", "matmul"), ("cudnn",), ("cudnn", "conv"), ("cudnn", "rnn"), ("mkldnn",), ("mkldnn", "conv"),
    ("mkldnn", "matmul"), ("mkldnn", "rnn"),
)  # fmt: skip


def place(names: tuple[str, ...]) -> Any:
    found = BACKENDS
    for name in names:
        found = getattr(found, name)
    return found


def standing() -> dict[str, object]:
    """All that can be asked of torch about float32."""
    found: dict[str, object] = {".".join(names): place(names).fp32_precision for names in SETTINGS}
    asked: dict[str, Callable[[], object]] = {
        "products": torch.get_float32_matmul_precision,
        "cuda": lambda: BACKENDS.cuda.matmul.allow_tf32,
        "cudnn": lambda: BACKENDS.cudnn.allow_tf32,
    }
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except RuntimeError:
            found[name] = "mixed"
    return found


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    if not hasattr(BACKENDS, "fp32_precision"):
        pytest.skip("this torch has the older settings only")
    yield
    for names in SETTINGS:
        if names != ("mkldnn",):  # it sets the common one
            place(names).fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")


def test_a_program_that_set_nothing_has_what_it_had() -> None:
    script = (
        "import torch; from resdepth.refinement.engine import unrounded_float32\n"
        "cudnn = torch.backends.cudnn\n"
        "before = cudnn.conv.fp32_precision, cudnn.allow_tf32\n"
        "with unrounded_float32(): inside = cudnn.conv.fp32_precision\n"
        "print(before == (cudnn.conv.fp32_precision, cudnn.allow_tf32), inside)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True ieee\n"


@pytest.mark.parametrize("names", SETTINGS)
@pytest.mark.parametrize("value", ["tf32", "ieee"])
@pytest.mark.parametrize("older", ["highest", "high", "medium"])
@pytest.mark.filterwarnings("ignore:Please use the new API")
def test_settings_of_the_program_around_neither_count_nor_change(
    names: tuple[str, ...], value: str, older: str
) -> None:
    torch.set_float32_matmul_precision(older)
    place(names).fp32_precision = value
    before = standing()
    for _ in range(2):
        with unrounded_float32():
            inside = {name: found for name, found in standing().items() if name != "cudnn"}
            assert set(inside.values()) == {"ieee", "highest", False}
        assert standing() == before


def test_what_follows_another_setting_follows_it_afterwards() -> None:
    BACKENDS.fp32_precision = "tf32"
    with unrounded_float32():
        pass
    BACKENDS.fp32_precision = "ieee"
    assert {place(names).fp32_precision for names in SETTINGS} == {"ieee"}


@pytest.mark.parametrize("fails", ["_not_following", "_older_setting"])
def test_settings_are_as_before_where_torch_refuses_to_show_them(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BACKENDS.fp32_precision = "ieee"
    before = standing()

    def refused(*_: object) -> None:
        engine._put({engine._COMMON: "tf32"})  # as both do to see what follows
        raise RuntimeError

    monkeypatch.setattr(engine, fails, refused)
    with pytest.raises(RuntimeError), unrounded_float32():
        pass
    assert standing() == before
