"""PyTorch beside the benchmarks: `plain`, as its documentation has it, or `expert`, with torch.compile, CUDA graphs and Newton-Schulz
batched by hand in bf16. Prints the same JSON lines. Matrix products in f32 are f32: TF32 stays off."""

import argparse
import json
import sys
import time

try:
    import torch
except ImportError:
    print(json.dumps({"framework": "PyTorch", "missing": "python3 has no package torch"}))
    sys.exit(0)

import pytorch_train

parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["plain", "expert"], default="plain")
parser.add_argument("--suite", default="kernels")
parser.add_argument("--device", default="cpu")  # the benchmarks' word: webgpu means cuda here
parser.add_argument("--budget", type=float, default=0.25)
parser.add_argument("--filter", default="")
parser.add_argument("--models", default="0.87M,10M,163M")
parser.add_argument("--optimizers", default="adamw,muon")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--small", action="store_true")
options = parser.parse_args()

framework = f"PyTorch {options.mode}"
device = "cuda" if options.device == "webgpu" else "cpu"
torch.set_float32_matmul_precision("highest")
torch.manual_seed(0)
generator = torch.Generator(device).manual_seed(1) if device != "cuda" or torch.cuda.is_available() else None


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, device=device, generator=generator).to(dtype)


def settle():
    if device == "cuda":
        torch.cuda.synchronize()


def fast(f):
    """The function itself, or compiled with CUDA graphs."""
    return f if options.mode == "plain" else torch.compile(f, mode="reduce-overhead" if device == "cuda" else "default")


def measure(call):
    """As benchmarks/src/lib/measure.ts: samples of many calls, the device waited for once a sample."""

    def sample(calls):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        settle()
        return (time.perf_counter() - start) * 1000

    for _ in range(3):  # compiles and captures
        sample(1)
    wanted = options.budget * 100
    warm = time.perf_counter() + (0.3 if device == "cuda" else 0)  # a GPU that has idled is slower
    calls, spent = 1, sample(1)
    while spent < wanted / 2 and calls < 4096:
        calls = min(4096, int(calls * min(8, max(1.5, wanted / spent)) + 1))
        spent = sample(calls)
    while time.perf_counter() < warm:
        sample(calls)
    times, total = [], 0.0
    while len(times) < 3 or (total < options.budget * 1000 and len(times) < 25):
        t = sample(calls)
        times.append(t / calls)
        total += t
    times.sort()
    return {"median_ms": times[len(times) // 2], "min_ms": times[0], "max_ms": times[-1]}


def line(**fields):
    print(json.dumps({"framework": framework, **fields}), flush=True)


def case(name, shape, call, flops=0, bytes=1, dtype="f32"):
    if options.filter not in f"{name} [{', '.join(map(str, shape))}]":
        return
    try:
        timing = measure(call)
        ms = timing["median_ms"]
        rate = {"gflops": flops / ms / 1e6} if flops > 10 * bytes else {"gbs": bytes / ms / 1e6}
        line(name=name, shape=shape, dtype=dtype, device=device, **timing, **rate)
    except Exception as error:  # the next case goes on
        line(name=name, shape=shape, dtype=dtype, device=device, failed=str(error)[:300])


def product(name, m, n, k, ta=False, tb=False, batch=None, dtype="f32"):
    lead = [] if batch is None else [batch]
    kind = torch.float32 if dtype == "f32" else torch.bfloat16
    a = draw(*lead, *((k, m) if ta else (m, k)), dtype=kind)
    b = draw(*lead, *((n, k) if tb else (k, n)), dtype=kind)
    f = fast(torch.matmul)
    case(
        name,
        [*lead, m, n, k],
        lambda: f(a.mT if ta else a, b.mT if tb else b),
        flops=2 * (batch or 1) * m * n * k,
        bytes=4 * (batch or 1) * (m * k + k * n + m * n),
        dtype=dtype,
    )


modes = {"matmul": (False, False), "matmul A^T B": (True, False), "matmul A B^T": (False, True), "matmul A^T B^T": (True, True)}


def linear(layer, tokens, features, out):
    product(f"{layer} forward", tokens, out, features, tb=True)
    product(f"{layer} dX", tokens, features, out)
    product(f"{layer} dW", out, features, tokens, ta=True)


def kernels():
    for dtype in ("f32", "bf16"):
        for n in (128, 256) if options.small else (512, 1000, 1024, 2048, 2049, 4095, 4096, 4097):
            for name, (ta, tb) in modes.items():
                product(name, n, n, n, ta, tb, dtype=dtype)
    tokens, width, vocabulary = (128, 48, 1009) if options.small else (8192, 768, 50257)
    linear("gpt2 qkv", tokens, width, 3 * width)
    linear("gpt2 proj", tokens, width, width)
    linear("gpt2 fc", tokens, width, 4 * width)
    linear("gpt2 proj2", tokens, 4 * width, width)
    linear("gpt2 head", tokens, width, vocabulary)
    n = 2**18 if options.small else 2**24
    rows = n // 1024
    flat, other, wide = draw(n), draw(n), draw(rows, 1024)
    add, sum_rows, sum_columns = fast(torch.add), fast(lambda x: x.sum(1)), fast(lambda x: x.sum(0))
    case("add", [n], lambda: add(flat, other), bytes=12 * n)
    case("sum of rows", [rows, 1024], lambda: sum_rows(wide), bytes=4 * n)
    case("sum of columns", [rows, 1024], lambda: sum_columns(wide), bytes=4 * n)
    softmax = fast(lambda x: torch.softmax(x, -1))
    case("softmax", [rows, 1024], lambda: softmax(wide), bytes=8 * n)
    transpose = fast(lambda x: (x.T * 2).contiguous())
    case("transpose", [rows, 1024], lambda: transpose(wide), bytes=8 * n)
    b, h, t, d = (1, 2, 128, 32) if options.small else (8, 12, 1024, 64)
    q, k, v = (draw(b, h, t, d) for _ in range(3))
    attend = fast(lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
    case("attention forward", [b, h, t, d], lambda: attend(q, k, v), flops=2 * b * h * t * (t + 1) * d, bytes=16 * q.numel())


def adamw(name, shape, tensors, n):
    params = [torch.nn.Parameter(p * 0.02) for p in tensors]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(params, lr=torch.tensor(0.01, device=device) if options.mode == "expert" else 0.01, weight_decay=0.1, fused=device == "cuda", capturable=device == "cuda")
    case(name, shape, optimizer.step, bytes=28 * n)


def optim():
    n = 2**18 if options.small else 2**24
    adamw("adamw, one tensor", [n], [draw(n)], n)
    count = 30 if options.small else 300
    shapes = [(4096,), (64, 64), (32, 128)]
    adamw("adamw, small tensors", [count, 4096], [draw(*shapes[i % 3]) for i in range(count)], count * 4096)
    for dtype in (torch.float32, torch.bfloat16):
        orthogonalise = fast(lambda x: pytorch_train.newton_schulz(x, dtype))
        for shape in [(64, 64)] if options.small else [(1024, 1024), (2048, 2048), (4096, 4096), (768, 3072), (2304, 768), (48, 768, 768), (24, 768, 3072)]:
            x = draw(*shape)
            short, long = min(shape[-2:]), max(shape[-2:])
            batch = shape[0] if len(shape) == 3 else 1
            flops = batch * 5 * (4 * short**2 * long + 2 * short**3)
            case("newton-schulz keller x5", list(shape), lambda: orthogonalise(x), flops, 8 * x.numel(), "f32" if dtype == torch.float32 else "bf16")
    layers, width = (2, 32) if options.small else (12, 768)
    matrices = [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]
    params = [torch.nn.Parameter(draw(*shape) * 0.02) for _ in range(layers) for shape in matrices]
    for p in params:
        p.grad = torch.randn_like(p)
    size = sum(p.numel() for p in params)
    # as shipped; its Newton-Schulz is in bf16 always
    step = pytorch_train.muon(params, options.mode, fast).step
    case("muon, hidden matrices", [len(params), size], step, bytes=20 * size, dtype="bf16")


def train():
    optimizers = options.optimizers.split(",")
    if unknown := [o for o in optimizers if o not in ("adamw", "muon")]:
        line(missing=f"not written for it: {', '.join(unknown)}")
    for name in options.models.split(","):
        for optimizer in (o for o in optimizers if o not in unknown):
            for dtype in ("f32", "bf16"):
                if options.filter not in f"train {name} {optimizer}":
                    continue
                try:
                    result = pytorch_train.run(name, optimizer, dtype, device, options, fast, settle)
                    line(name=f"train {name} {optimizer}", dtype=dtype, device=device, **result)
                except Exception as error:
                    line(name=f"train {name} {optimizer}", dtype=dtype, device=device, failed=str(error)[:300])


suites = {"kernels": kernels, "optim": optim, "train": train}
if device == "cuda" and not torch.cuda.is_available():
    line(missing="torch has no CUDA device here")
elif options.suite not in suites:
    line(missing=f'no cases of "{options.suite}" are written for it')
else:
    line_version = torch.__version__
    print(f"PyTorch {line_version}, {device}", file=sys.stderr)
    suites[options.suite]()
