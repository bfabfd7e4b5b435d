"""Tar and zip files, and LMDBs, for the tests, made here."""

import io
import tarfile
import zipfile

import lmdb


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


def lmdb_of(path, values, **options):
    """Write {key: bytes} by the lmdb package, as a folder that holds a data.mdb."""
    with lmdb.open(str(path), map_size=1 << 24, **options) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode() if isinstance(key, str) else key, value)
    return path


def datum_of(data, label=None):
    """Caffe's Datum, a protobuf message, of an encoded image: 3 channels, the data, then the label if there is one."""
    return (
        b"\x08\x03\x22" + _varint(len(data)) + data + (b"" if label is None else b"\x28" + _varint(label % (1 << 64)))
    )


def _varint(number):
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
