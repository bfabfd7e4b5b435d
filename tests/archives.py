"""Tar and zip files for the tests, made here."""

import io
import tarfile
import zipfile


def tar_of(path, files, kind=tarfile.USTAR_FORMAT):
    """Write {name: bytes}, or (name, bytes) pairs where a name is there twice; a TarInfo goes in as it is."""
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zip_of(path, files, compression=zipfile.ZIP_DEFLATED):
    """Write {name: bytes}; a ZipInfo goes in as it is."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
