"""Reads each file as YAML, as another program would, and prints all of them as one JSON list of lists of documents."""

import json
import sys

import yaml


def main() -> None:
    read = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            read.append(list(yaml.safe_load_all(file)))
    json.dump(read, sys.stdout, default=str)


main()
