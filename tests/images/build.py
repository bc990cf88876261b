"""Images for the tests. Where a registry can be reached they are the official ones; where none can, they are made here:

    python -m tests.images.build

makes them all and prints their names. Their parts come from Debian's packages (`mmdebstrap`, which needs root or user
namespaces) and, for PostgreSQL 16 and 18, from the wheel that the embedded servers come from. Each is made once: its name ends
with a digest of what it is made from. Test processes that want the same one wait for whoever makes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.embedded import Version, binaries

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
DOCKERFILE: Final = ROOT / "deploy" / "Dockerfile"
ENTRYPOINT: Final = "postgres-entrypoint.sh"
PREFIX: Final = "walflow-test"
POSTGRES_VARIABLE: Final = "WALFLOW_TEST_POSTGRES_IMAGE"
POSTGRES_IMAGE: Final = "postgres:{version}"
"""The official image; the variable may name another one, with `{version}` in it or without."""
PYTHON_VARIABLE: Final = "WALFLOW_TEST_PYTHON_IMAGE"
PYTHON_IMAGE: Final = "python:3.11-slim"
SUITE: Final = "bookworm"
"""Debian 12: Python 3.11 and PostgreSQL 15 are its own."""
MIRRORS: Final = tuple(
    f"deb http://deb.debian.org/{path} {suite} main"
    for path, suite in (("debian", SUITE), ("debian", f"{SUITE}-updates"), ("debian-security", f"{SUITE}-security"))
)
PYTHON_PACKAGES: Final = ("ca-certificates", "python3", "python3-pip")
AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""This machine's: whoever reaches PyPI through a proxy of his own trusts it there."""
SLIM: Final = ("man", "doc", "locale", "info")
ANSWER_SECONDS: Final = 20.0
PULL_SECONDS: Final = 600.0
BUILD_SECONDS: Final = 900.0


class ImageError(Exception):
    """An image cannot be had; the text ends with what the tool said."""


# -- Docker -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def why_no_docker() -> str | None:
    """Why no container can be run here; None when they can."""
    if shutil.which("docker") is None:
        return "no docker command"
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"docker info has not answered in {ANSWER_SECONDS:g} s"
    return None if asked.returncode == 0 else "the Docker daemon does not answer"


def docker(*arguments: str, given: bytes = b"", timeout: float = BUILD_SECONDS) -> str:
    """Run the docker command and return what it printed. Raises ImageError."""
    return _run(["docker", *arguments], given, timeout)


def _run(command: Sequence[str], given: bytes, timeout: float) -> str:
    # the classic builder: what the daemon has been told to trust and imported is there, and no plug-in is needed
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{' '.join(command[:3])} … took more than {timeout:g} s") from error
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command)} failed:\n{said[-4000:]}\n{done.stderr.decode(errors='replace')[-4000:]}")
    return said


def is_here(image: str) -> bool:
    """Whether the daemon has this image."""
    try:
        docker("image", "inspect", image)
    except ImageError:
        return False
    return True


@lru_cache
def can_be_had(image: str) -> bool:
    """Whether the image is here, or could be pulled now."""
    if is_here(image):
        return True
    try:
        docker("pull", "--quiet", image, timeout=PULL_SECONDS)
    except ImageError:
        return False
    return True


def size_bytes(image: str) -> int:
    """The size of an image, all layers together."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", image))


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Of all processes on this machine, one is inside; the kernel lets the next one in when it dies, too."""
    path = Path(tempfile.gettempdir()) / f"{PREFIX}-{os.getuid()}-{name}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts: object) -> str:
    """A short digest of what an image is made from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


# -- from Debian's packages -------------------------------------------------------------------------------------------


def debian(name: str, packages: tuple[str, ...]) -> str:
    """An image with these packages of Debian and what they depend on; returns its name. Raises ImageError."""
    authorities = AUTHORITIES.read_bytes() if AUTHORITIES.exists() else b""
    image = f"{PREFIX}/{name}:{digest(SUITE, packages, SLIM, authorities)}"
    with one_at_a_time(name):
        if not is_here(image):
            with tempfile.TemporaryDirectory() as directory:
                archive = Path(directory) / "root.tar"
                _write_root(packages, archive)
                docker("import", "--change", f"ENV PIP_CERT={AUTHORITIES}", str(archive), image)
    return image


def _write_root(packages: tuple[str, ...], archive: Path) -> None:
    """Write the root file system as a tar archive."""
    if shutil.which("mmdebstrap") is None:
        raise ImageError(
            "no registry can be reached, and there is no mmdebstrap to make images: apt-get install mmdebstrap"
        )
    # a package of PostgreSQL makes a cluster when it is installed, unless it is told not to
    folder = '"$1"/etc/postgresql-common'
    no_cluster = f"mkdir -p {folder} && echo 'create_main_cluster = false' > {folder}/createcluster.conf"
    command = ["mmdebstrap", "--variant=minbase", "--quiet", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in SLIM]
    command.append(f"--essential-hook={no_cluster}")
    if AUTHORITIES.exists():
        command.append(f'--customize-hook=mkdir -p "$1"{AUTHORITIES.parent}')
        command.append(f"--customize-hook=upload {AUTHORITIES} {AUTHORITIES}")
    _run([*command, SUITE, str(archive), *MIRRORS], b"", BUILD_SECONDS)


# -- the images that tests ask for --------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def python_image() -> str:
    """The base of walflow's image: the official slim one, or another that the variable names, or one made of packages."""
    wanted = os.environ.get(PYTHON_VARIABLE)
    if wanted or can_be_had(PYTHON_IMAGE):
        return wanted or PYTHON_IMAGE
    return debian("python", PYTHON_PACKAGES)


@lru_cache(maxsize=1)
def engine_image() -> str:
    """walflow's own image, built from this checkout by deploy/Dockerfile."""
    image = f"{PREFIX}/walflow:{digest(str(ROOT))}"
    base = python_image()
    with one_at_a_time("walflow"):
        docker("build", "--file", str(DOCKERFILE), "--build-arg", f"BASE={base}", "--tag", image, str(ROOT))
    return image


@lru_cache
def postgres_image(version: Version) -> str:
    """A PostgreSQL of this version: the image that the variable names, else the official one, else one made here."""
    wanted = os.environ.get(POSTGRES_VARIABLE)
    image = (wanted or POSTGRES_IMAGE).format(version=version)
    if can_be_had(image):
        return image
    if wanted:
        raise ImageError(f"{POSTGRES_VARIABLE} names {image}, which can be neither found nor pulled")
    return _made_postgres(version)


def fixed_postgres() -> bool:
    """Whether the variable names one image, whatever version is asked for."""
    wanted = os.environ.get(POSTGRES_VARIABLE)
    return wanted is not None and wanted.format(version="x") == wanted


def _made_postgres(version: Version) -> str:
    if version == 15:
        return _server(
            "postgres-15", debian("debian-postgres-15", ("postgresql-15",)), "/usr/lib/postgresql/15/bin", None
        )
    found = binaries(version)
    if found is None:
        raise ImageError(f"there are no binaries of PostgreSQL {version} here: pip install 'walflow[embedded]'")
    package = found.parents[1]
    path = f"/opt/postgres/{found.relative_to(package.parent)}"
    return _server(f"postgres-{version}", debian("python", PYTHON_PACKAGES), path, found.parent)


def _server(name: str, base: str, path: str, installation: Path | None) -> str:
    texts = {"Dockerfile": HERE / "postgres.Dockerfile", ENTRYPOINT: HERE / ENTRYPOINT}
    of = [digest(base, path, *(file.read_bytes() for file in texts.values()))]
    image = f"{PREFIX}/{name}:{of[0]}"
    with one_at_a_time(name):
        if not is_here(image):
            context = _context(texts, installation)
            arguments = ["--build-arg", f"BASE={base}", "--build-arg", f"BIN={path}", "--tag", image, "-"]
            docker("build", *arguments, given=context)
    return image


def _context(texts: dict[str, Path], installation: Path | None) -> bytes:
    """What the server's image is built from. An installation keeps its place beside the libraries of its wheel."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, file in texts.items():
            archive.add(file, name, filter=_for_all)
        folder = tarfile.TarInfo("installation")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        if installation is not None:
            package = installation.parent
            libraries = package.with_name(f"{package.name}.libs")
            archive.add(installation, f"installation/{package.name}/{installation.name}", filter=_for_all)
            if libraries.exists():
                archive.add(libraries, f"installation/{libraries.name}", filter=_for_all)
    return written.getvalue()


def _for_all(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Root's, and everybody may read it: a mode that is changed in an image is a copy of all files."""
    member.uid = member.gid = 0
    member.mode |= 0o555 if member.isdir() or member.mode & 0o100 else 0o444
    return member


if __name__ == "__main__":
    for made in (python_image(), engine_image(), *(postgres_image(version) for version in (15, 16, 18))):
        print(made)
