"""What Sealstream reads of the environment and the files that the chart gives to a role."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sealstream.worker.settings import Settings, load_settings
from support.helm import Release

SECRETS: Final = "/run/secrets/sealstream"
DATA: Final = "/var/lib/sealstream"
DATABASE_URL: Final = "postgresql://writer:secret@store.example.org/audit"


def worker_settings(release: Release, role: str, directory: Path, secrets: Mapping[str, str] | None = None) -> Settings:
    """What a role's container would read, with the files of its Secrets and its ConfigMap written below `directory`.

    Each file of a Secret holds what `secrets` says of its name; else a database's URL, or just its name.
    """
    contents = release.documents(role)
    for path in release.files(role):
        name = Path(path).name
        contents[path] = (secrets or {}).get(name, f"{DATABASE_URL if name.endswith('database-url') else name}\n")
    for path, content in contents.items():
        file = directory / Path(path).name
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
    environment = release.environment(role)
    return load_settings(
        {
            name: value.replace(SECRETS, str(directory)).replace(DATA, str(directory))
            for name, value in environment.items()
        }
    )
