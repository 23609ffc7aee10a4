"""Times what FedSVD's server step costs where the product of the factors is formed: `svd(b @ a)`, dense.

Our side never forms it; see `cargo bench -p fedlora-aggregation --bench server_step`. Prints one JSON object.
"""

import argparse
import json
import time

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096, help="rows and columns of the product")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    a, b = torch.randn(args.rank, args.width), torch.randn(args.width, args.rank)
    started, cpu = time.perf_counter(), time.process_time()
    u, s, vh = torch.linalg.svd(b @ a, full_matrices=False)
    new_b, new_a = u[:, : args.rank] * s[: args.rank], vh[: args.rank]
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    error = float(torch.linalg.norm(new_b @ new_a - b @ a) / torch.linalg.norm(b @ a))
    figures = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3), "relative_error": error}
    print(json.dumps({"torch": torch.__version__, **vars(args), **figures}))


if __name__ == "__main__":
    main()
