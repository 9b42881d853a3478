"""Unpacking archives that are not trusted: every member is checked before a byte is written."""

import re
import tarfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

MAX_BYTES = 64 * 2**30
"""No archive may be larger, neither packed nor unpacked."""
MAX_MEMBERS = 100_000
"""No archive may hold more files and folders."""

_CLIMBS = (re.compile(r"(^|/)\.\.(/|$)"), "climbs out of its folder with '..'")
_UNSAFE_NAMES = (
    (re.compile(r"^/"), "is an absolute path"),
    (re.compile(r"(^|/)[A-Za-z]:"), "has a drive letter"),
    (re.compile(r"\\"), "has a backslash, which separates folders on Windows"),
    (re.compile(r"[\x00-\x1f\x7f]"), "has a control character"),
    (re.compile(r"^.{1025}"), "is longer than 1024 characters"),
)
# What tarfile raises on damaged headers; OSError is left out, it means the disk.
_UNREADABLE = (tarfile.TarError, ValueError, LookupError, ArithmeticError, EOFError, RecursionError)


class RefusedError(Exception):
    """The archive is damaged or not safe to unpack."""


def unpack(archive: Path, folder: Path, names: Sequence[str]) -> Path:
    """Unpack into a folder of its own in `folder`; a single top folder called by one of `names` is left out.

    Returns:
        The folder that holds the contents.

    Raises:
        RefusedError: a member is unsafe, or the archive cannot be read. All members are checked before a
            byte is written.
        OSError: the disk is full.
    """
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = _listed(tar)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise RefusedError(f"it breaks off or is damaged at byte {tar.offset}")
            top = _top_folder(members, names)
            _check_members(members, top)
            contents = folder / "contents"
            contents.mkdir()
            tar.extractall(contents, members, filter="data")
            if lost := [member.name for member in members if not _is_there(contents / member.name)]:
                raise RefusedError(f"its member {lost[0]!r} cannot be unpacked")
            return contents.joinpath(*top)
    except _UNREADABLE as error:
        raise RefusedError(f"it is not a plain tar archive, or a damaged one ({error})") from error


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _listed(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """All members; the limits are checked while reading, so that a bomb is not even listed."""
    members, total = [], 0
    for member in tar:
        members.append(member)
        total += member.size
        if len(members) > MAX_MEMBERS:
            raise RefusedError(f"it has more than {MAX_MEMBERS} members")
        if member.size < 0 or total > MAX_BYTES:
            raise RefusedError(f"it would unpack to more than {MAX_BYTES} bytes (at member {member.name!r})")
    return members


def _parts(member: tarfile.TarInfo) -> tuple[str, ...]:
    return PurePosixPath(member.name).parts


def _top_folder(members: Sequence[tarfile.TarInfo], names: Sequence[str]) -> tuple[str, ...]:
    """(name,) if all members lie in one folder called by one of `names`, else ()."""
    tops = {_parts(member)[0] for member in members if _parts(member)}
    flat = any(len(_parts(member)) == 1 and not member.isdir() for member in members)
    return tuple(tops) if len(tops) == 1 and not flat and tops <= set(names) else ()


def _check_members(members: Sequence[tarfile.TarInfo], top: tuple[str, ...]) -> None:
    """Raise RefusedError, naming up to five unsafe members, unless every one can be unpacked safely."""
    problems = [f"{member.name[:200]!r} {found}" for member in members if (found := _unsafe(member))]
    if not problems:
        problems = _misplaced(members, top)
    if not any(member.isreg() for member in members):
        problems.append("there is no file in it")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise RefusedError(f"unsafe members: {'; '.join(problems[:5])}{more}")


def _unsafe(member: tarfile.TarInfo) -> str | None:
    """What is wrong with a member by itself."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return "is a device, a pipe or of an unknown kind"
    if not _parts(member) and not member.isdir():
        return "has no name"
    for pattern, problem in (_CLIMBS, *_UNSAFE_NAMES):
        if pattern.search(member.name):
            return problem
    for pattern, problem in _UNSAFE_NAMES:
        if pattern.search(member.linkname):
            return f"is a link to {member.linkname[:200]!r}, which {problem}"
    return None


def _misplaced(members: Sequence[tarfile.TarInfo], top: tuple[str, ...]) -> list[str]:
    """What is wrong with members beside others: doubles, members in files, links that lead elsewhere."""
    problems = []
    leaves: dict[str, tarfile.TarInfo] = {}
    folders = {_key(_parts(member)) for member in members if member.isdir()}
    for member in members:
        key = _key(_parts(member))
        if member.isdir():
            continue
        if key in leaves or key in folders:
            problems.append(f"{member.name!r} is there twice (small and capital letters count as equal)")
        # tarfile passes over a hard link whose file has not come yet.
        if member.islnk() and not _names_file(leaves.get(_key(PurePosixPath(member.linkname).parts)), member):
            problems.append(f"{member.name!r} is a link to {member.linkname!r}, which is no file before it")
        leaves[key] = member
    for member in members:
        parts = _parts(member)
        if any(_key(parts[:depth]) in leaves for depth in range(1, len(parts))):
            problems.append(f"{member.name!r} lies in a member that is not a folder")
        elif member.issym() and (found := _stray_link(member, leaves, top)):
            problems.append(f"{member.name!r} is a link to {member.linkname!r}, {found}")
    return problems


def _names_file(file: tarfile.TarInfo | None, link: tarfile.TarInfo) -> bool:
    return file is not None and file.isreg() and _parts(file) == PurePosixPath(link.linkname).parts


def _stray_link(
    member: tarfile.TarInfo, leaves: Mapping[str, tarfile.TarInfo], top: tuple[str, ...]
) -> str | None:
    """Why a symbolic link is refused: it leaves the unpacked folder, or another link might lead it out."""
    at = list(_parts(member)[:-1])
    for part in PurePosixPath(member.linkname).parts:
        if part != "..":
            at.append(part)
        elif len(at) > len(top):
            at.pop()
        else:
            return "which leads outside"
        if (leaf := leaves.get(_key(at))) is not None and leaf.issym():
            return "which is or passes another link"
    return None


def _key(parts: Sequence[str]) -> str:
    """Equal for names that some file system cannot tell apart (case, composed letters)."""
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()
