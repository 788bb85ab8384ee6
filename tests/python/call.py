"""Calls a Twinkeep node with Google's own gRPC library and stubs generated here from proto/.

Usage: call.py PROTO_FOLDER ADDRESS ROOT CERTIFICATE KEY KEY_ID NOBODY_CERTIFICATE NOBODY_KEY
    AUDITOR_CERTIFICATE AUDITOR_KEY
Prints one line for each thing that was tried; ends with an error if one went another way.
"""

import pathlib
import sys
import tempfile

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_tools import protoc

(
    proto, address, root, certificate, key, key_id,
    nobody_certificate, nobody_key, auditor_certificate, auditor_key,
) = sys.argv[1:]


def read(path):
    return pathlib.Path(path).read_bytes()


def channel(certificate=None, key=None):
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read(root),
        private_key=read(key) if key else None,
        certificate_chain=read(certificate) if certificate else None,
    )
    return grpc.secure_channel(address, credentials)


def generate():
    out = tempfile.mkdtemp()
    files = [str(f) for f in pathlib.Path(proto, "twinkeep", "v1").glob("*.proto")]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{proto}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(arguments + files) == 0, "the stubs could not be generated"
    sys.path.insert(0, out)


generate()
from twinkeep.v1 import crypto_pb2, crypto_pb2_grpc, key_pb2, key_pb2_grpc  # noqa: E402


def expect(what, code, *parts, call):
    try:
        call()
    except grpc.RpcError as error:
        text = error.details()
        assert error.code() == code, f"{what}: {error.code()} {text}"
        for part in parts:
            assert part in text, f"{what}: `{part}` is not in `{text}`"
        print(f"{what}: {code.name}: {text}")
        return
    raise AssertionError(f"{what}: was answered")


with channel(certificate, key) as good:
    stub = reflection_pb2_grpc.ServerReflectionStub(good)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    services = [s.name for answer in stub.ServerReflectionInfo(iter([request])) for s in answer.list_services_response.service]
    assert "twinkeep.v1.CryptoService" in services, services
    assert not any("peer" in name for name in services), services
    print("services:", " ".join(sorted(services)))

    crypto = crypto_pb2_grpc.CryptoServiceStub(good)
    sealed = crypto.Encrypt(crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"from python"))
    opened = crypto.Decrypt(crypto_pb2.DecryptRequest(ciphertext=sealed.ciphertext))
    assert opened.plaintext == b"from python"
    print("encrypted and decrypted with mTLS")

    expect(
        "bad field", grpc.StatusCode.INVALID_ARGUMENT, "key_id",
        call=lambda: crypto.Encrypt(crypto_pb2.EncryptRequest(key_id="key-xyz", plaintext=b"x")),
    )
    expect(
        "over the size limit", grpc.StatusCode.RESOURCE_EXHAUSTED, "plaintext", "65536",
        call=lambda: crypto.Encrypt(crypto_pb2.EncryptRequest(key_id=key_id, plaintext=bytes(65537))),
    )

with channel() as without:
    expect(
        "without a certificate", grpc.StatusCode.UNAUTHENTICATED, "certificate",
        call=lambda: crypto_pb2_grpc.CryptoServiceStub(without).Encrypt(
            crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"x")
        ),
    )

with channel(nobody_certificate, nobody_key) as nobody:
    expect(
        "without a role", grpc.StatusCode.PERMISSION_DENIED, "role",
        call=lambda: crypto_pb2_grpc.CryptoServiceStub(nobody).Encrypt(
            crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"x")
        ),
    )

with channel(auditor_certificate, auditor_key) as auditor:
    expect(
        "a role for something else", grpc.StatusCode.PERMISSION_DENIED, "role",
        call=lambda: crypto_pb2_grpc.CryptoServiceStub(auditor).Encrypt(
            crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"x")
        ),
    )
