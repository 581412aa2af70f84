"""The decoders of benchmarks/src/train/models.ts in PyTorch (RMSNorm, GELU, rotary positions, untied head) and their optimizers."""

import time

import torch
from torch import nn
from torch.nn import functional as F

# name: batch, tokens, vocabulary, width, layers, heads
models = {
    "5K": (2, 16, 64, 16, 1, 2),
    "0.87M": (16, 128, 256, 128, 4, 4),
    "10M": (16, 256, 4096, 320, 6, 5),
    "163M": (8, 1024, 50257, 768, 12, 12),
}
keller = (3.4445, -4.7750, 2.0315)


def newton_schulz(x, dtype):
    """Five Keller steps on the last two axes, in `dtype`."""
    a, b, c = keller
    X = x.to(dtype)
    tall = X.size(-2) > X.size(-1)
    if tall:
        X = X.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.mT
        X = a * X + (b * A + c * (A @ A)) @ X
    return X.mT if tall else X


class BatchedMuon:
    """Muon with one batched Newton-Schulz for all matrices of a shape, in bf16; compiled."""

    def __init__(self, params, fast, lr=0.002, momentum=0.95, decay=0.1):
        self.groups = {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momenta = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self.direction = fast(self.direct)

    def direct(self, gradients, old):
        g = torch.stack(gradients)
        m = torch.lerp(g, old, self.momentum)
        scale = 0.2 * max(g.shape[-2:]) ** 0.5
        return newton_schulz(torch.lerp(g, m, self.momentum), torch.bfloat16).float() * scale, m

    @torch.no_grad()
    def step(self):
        for shape, params in self.groups.items():
            update, momentum = self.direction([p.grad for p in params], self.momenta[shape])
            self.momenta[shape].copy_(momentum)
            torch._foreach_mul_(params, 1 - self.lr * self.decay)
            torch._foreach_add_(params, list(update.unbind(0)), alpha=-self.lr)


def muon(params, mode, fast):
    if mode == "expert":
        return BatchedMuon(params, fast)
    return torch.optim.Muon(params, lr=0.002, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.ParameterList(nn.Parameter(torch.randn(width, width) * 0.02) for _ in range(3))
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x, cos, sin):
        batch, tokens, width = x.shape
        h = self.norm1(x)
        q, k, v = (F.linear(h, w).view(batch, tokens, self.heads, -1).transpose(1, 2) for w in self.qkv)
        o = F.scaled_dot_product_attention(rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v, is_causal=True)
        x = x + self.out(o.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self, tokens, vocabulary, width, layers, heads):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        size = width // heads
        angles = torch.outer(torch.arange(tokens).float(), 10000 ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())


def run(name, optimizer_name, dtype, device, options, fast, settle):
    batch, tokens, vocabulary, width, layers, heads = models[name]
    torch.manual_seed(0)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = Decoder(tokens, vocabulary, width, layers, heads).to(device)
    hidden = [p for p in model.layers.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2 or all(p is not h for h in hidden)]
    fused = {"fused": device == "cuda", "weight_decay": 0.1, "lr": 0.001}
    if optimizer_name == "adamw":
        optimizers = [torch.optim.AdamW(model.parameters(), **fused)]
    else:
        optimizers = [muon(hidden, options.mode, fast), torch.optim.AdamW(rest, **fused)]
    loss_of = fast(model)
    ids = torch.randint(vocabulary, (batch, tokens), device=device)

    def step():
        if options.mode == "expert":
            torch.compiler.cudagraph_mark_step_begin()  # what graphs gave before may be written over
        model.zero_grad(set_to_none=options.mode == "plain")
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16"):
            loss = loss_of(ids)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach().clone()

    start = time.perf_counter()
    first_loss = step().item()
    first = time.perf_counter() - start
    for _ in range(3):  # captures graphs
        step()
    settle()
    times, end = [], time.perf_counter() + 10 * options.budget
    while len(times) < options.steps and (len(times) < 5 or time.perf_counter() < end):
        begin = time.perf_counter()
        loss = step()
        settle()
        times.append((time.perf_counter() - begin) * 1000)
    times.sort()
    result = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": batch,
        "tokens": tokens,
        "median_ms": times[len(times) // 2],
        "min_ms": times[0],
        "max_ms": times[-1],
        "tokens_per_second": batch * tokens * 1000 / times[len(times) // 2],
        "first_step_s": first,
        "first_loss": first_loss,
        "loss": loss.item(),
    }
    if device == "cuda":
        result["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return result
