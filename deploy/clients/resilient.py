"""A gRPC channel to Twinkeep that goes on when a zone is lost, with Google's own library (grpcio).

Run as a program it calls until its standard input ends, and prints what became of its calls as JSON:

    resilient.py PROTO_FOLDER ROOT CERTIFICATE KEY INSTANCE_ID KEY_ID NAME ADDRESS...

NAME is the DNS name that all nodes' certificates have (`api.dns-names` of the configuration; `localhost` in a cluster
of `twinkeep dev up`), each ADDRESS an `IPv4:port`.
"""

import json
import os
import pathlib
import sys
import tempfile
import threading
import time

import grpc

SERVICE_CONFIG = pathlib.Path(__file__).with_name("grpc-service-config.json").read_text()


# begin channel
def resilient_channel(addresses, name, root, certificate, key):
    """Opens a channel over all nodes of both zones.

    addresses: `IPv4:port` of each node; name: the DNS name in the nodes' certificates; the others: PEM, as bytes.
    """
    credentials = grpc.ssl_channel_credentials(root, private_key=key, certificate_chain=certificate)
    options = [
        # Which calls are tried again, round robin over all nodes, health of the service.
        ("grpc.service_config", SERVICE_CONFIG),
        ("grpc.enable_retries", 1),
        # Lets `perAttemptRecvTimeout` of the service config count: it is what gets a call away from a silent node.
        ("grpc.experimental.enable_hedging", 1),
        # One name for all nodes, since round robin needs them under one target.
        ("grpc.ssl_target_name_override", name),
        # A dead connection is known after a second, while calls are under way.
        ("grpc.keepalive_time_ms", 500),
        ("grpc.keepalive_timeout_ms", 500),
        ("grpc.http2.max_pings_without_data", 0),
        # A node that is back is tried again soon; one that is silent costs no more than this.
        ("grpc.min_reconnect_backoff_ms", 250),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    return grpc.secure_channel("ipv4:" + ",".join(addresses), credentials, options=options)
# end channel


def stubs(proto):
    """Generates the stubs from proto/ and returns the modules of crypto and key."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp()
    files = [str(f) for f in pathlib.Path(proto, "twinkeep", "v1").glob("*.proto")]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{proto}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}"]
    assert protoc.main(arguments + files) == 0, "the stubs could not be generated"
    sys.path.insert(0, out)
    from twinkeep.v1 import crypto_pb2, crypto_pb2_grpc, key_pb2, key_pb2_grpc

    return crypto_pb2, crypto_pb2_grpc, key_pb2, key_pb2_grpc


def main():
    proto, root, certificate, key, instance_id, key_id, name, *addresses = sys.argv[1:]
    crypto_pb2, crypto_pb2_grpc, key_pb2, key_pb2_grpc = stubs(proto)
    read = lambda path: pathlib.Path(path).read_bytes()
    stop, lock = threading.Event(), threading.Lock()
    times, failed, made = [], [], []

    def note(began, error=None):
        with lock:
            times.append(time.monotonic() - began)
            if error is not None:
                failed.append(f"{error.code().name}: {error.details()}")

    with resilient_channel(addresses, name, read(root), read(certificate), read(key)) as channel:
        crypto = crypto_pb2_grpc.CryptoServiceStub(channel)
        keys = key_pb2_grpc.KeyServiceStub(channel)

        def use():
            while not stop.is_set():
                began = time.monotonic()
                request = crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"from python")
                try:
                    crypto.Encrypt(request, timeout=2)
                    note(began)
                except grpc.RpcError as error:
                    note(began, error)
                time.sleep(0.01)

        def create(token):
            # The token makes the call safe to send twice: within a day it makes one key, however often it arrives.
            return keys.CreateKey(
                key_pb2.CreateKeyRequest(
                    instance_id=instance_id, spec=key_pb2.KEY_SPEC_AES_256, idempotency_token=token
                ),
                timeout=10,
            )

        def change():
            while not stop.is_set():
                token = os.urandom(16)
                try:
                    made.append((token, create(token).key.key_id))
                except grpc.RpcError as error:
                    with lock:
                        failed.append(f"CreateKey: {error.code().name}: {error.details()}")
                time.sleep(0.05)

        use_once = crypto_pb2.EncryptRequest(key_id=key_id, plaintext=b"x")
        crypto.Encrypt(use_once, timeout=10)
        threads = [threading.Thread(target=use) for _ in range(4)] + [threading.Thread(target=change)]
        for thread in threads:
            thread.start()
        print("calling", flush=True)
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join()
        # The same token again is the same key.
        repeated = [(create(token).key.key_id, made_id) for token, made_id in made[:: max(1, len(made) // 20)]]
    times.sort()
    at = lambda share: round(1000 * times[min(len(times) - 1, int(len(times) * share))], 1)
    print(
        json.dumps(
            {
                "calls": len(times),
                "failed": len(failed),
                "errors": failed[:5],
                "p50_ms": at(0.5),
                "p99_ms": at(0.99),
                "longest_ms": at(1),
                "keys": len(made),
                "distinct_keys": len({made_id for _, made_id in made}),
                "repeated_alike": all(again == before for again, before in repeated),
            }
        )
    )


if __name__ == "__main__":
    main()
