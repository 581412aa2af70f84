import { grad } from "@mc/autograd";
import { key, sum, tensor } from "@mc/tensor";
import { sharedTestDevice } from "@mc/testing";
import { beforeAll, expect, test } from "vitest";
import { embedding } from "./embedding.ts";

beforeAll(() => sharedTestDevice());

const ids = () =>
  tensor(
    [
      [2, 0],
      [2, 2],
    ],
    { dtype: "i32" },
  );

test("embedding(ids) reads rows of the table", async () => {
  const table = embedding({ numEmbeddings: 3, features: 2 });
  const rows = table.apply(
    {
      weight: tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
    },
    ids(),
  );
  expect(rows.shape).toEqual([2, 2, 2]);
  await expect(rows).toBeAllClose([
    [
      [5, 6],
      [1, 2],
    ],
    [
      [5, 6],
      [5, 6],
    ],
  ]);
  expect(table.roles).toEqual({ weight: { role: "embedding" } });
});

test("embedding(ids) sums the gradients of rows that are read twice", async () => {
  const table = embedding({ numEmbeddings: 3, features: 2 });
  const gradient = grad((params: { weight: ReturnType<typeof tensor> }) => sum(table.apply(params, ids())))(
    table.init(key(1)),
  );
  await expect(gradient.weight).toBeAllClose([
    [1, 1],
    [0, 0],
    [3, 3],
  ]);
});
