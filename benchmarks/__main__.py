"""All benchmarks: `python -m benchmarks`."""

from benchmarks import codec, imports, runtime, serializer
from benchmarks.table import print_table

if __name__ == "__main__":
    print_table([*runtime.measure(), *serializer.measure(), *codec.measure(), *imports.measure()])
