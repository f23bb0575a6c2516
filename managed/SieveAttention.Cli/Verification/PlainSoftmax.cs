using System.Numerics.Tensors;

namespace SieveAttention.Cli.Verification;

/// <summary>
/// Softmax attention in a 16-bit type without any care, both passes: operands as given, scores and sums in float32, and everything that
/// would be stored as a tensor (weights, output, upstream gradient behind the epilogue, gradients of scores, results) rounded to the type.
/// </summary>
/// <remarks>
/// The output is stored once, behind the epilogue: it is all of the forward pass that a backward pass gets, here as in a kernel, besides
/// the log-sum-exp. What needs x itself (gradients of scores and gate) has it from there, with the rounding of the output. Rounding x in its
/// place would be as exact on the whole, but no rounding at all where a row has one key and x is its value: no implementation that keeps
/// only its gated output could follow there.
/// </remarks>
internal sealed class PlainSoftmax(
    TensorType type, AttentionProblem problem, ScoreTerms<float> terms, HostArray<float> q, HostArray<float> k, HostArray<float> v)
{
    /// <summary>Gradients, those of queries, keys and values rounded to the type.</summary>
    internal sealed record Gradients(
        HostArray<float> Query, HostArray<float> Key, HostArray<float> Value, HostArray<float>? RowFactor, HostArray<float>? Gate);

    /// <summary>The output, rounded to the type.</summary>
    public float[] Forward(PlainEpilogue epilogue) => PlainEvaluation.Run(type, problem, Weigh, v, epilogue);

    /// <summary>The gradients. The epilogue has no norm.</summary>
    public Gradients Backward(HostArray<float> outputGradient, PlainEpilogue epilogue)
    {
        Gradients result = new(
            new(problem.QueryShape),
            new(problem.KeyShape),
            new(problem.ValueShape),
            terms.RowFactor is null ? null : new(problem.RowShape),
            epilogue.Gate is null ? null : new(problem.RowShape));
        int group = problem.QueryHeads / problem.KeyHeads;
        // Query heads that share keys add to the same gradients: one task for each key head.
        Parallel.For(0, problem.Batch * problem.KeyHeads, task =>
        {
            Row row = new(problem);
            int batch = task / problem.KeyHeads;
            int keyHead = task % problem.KeyHeads;
            for (int head = keyHead * group; head < (keyHead + 1) * group; head++)
            {
                for (int query = 0; query < problem.Queries; query++)
                {
                    Add(row, result, outputGradient, epilogue, batch, head, query);
                }
            }
        });
        Round(result.Query);
        Round(result.Key);
        Round(result.Value);
        return result;
    }

    /// <summary>Softmax weights of a row in float32; what is not visible stays as it is.</summary>
    public void Weigh(int batch, int head, int query, Span<float> weights)
    {
        KeyRange visible = problem.Visible(query);
        Span<float> w = weights[visible.First..visible.End];
        Products(batch, head, query, visible, w);
        Score(batch, head, query, visible, w);
    }

    private void Products(int batch, int head, int query, KeyRange visible, Span<float> products)
    {
        ReadOnlySpan<float> keys = k.Head(batch, problem.KeyHead(head));
        ReadOnlySpan<float> row = q.Row(batch, head, query);
        for (int n = 0; n < products.Length; n++)
        {
            products[n] = terms.Scale * TensorPrimitives.Dot(row, keys.Slice((visible.First + n) * row.Length, row.Length));
        }
    }

    /// <summary>From scaled products to weights.</summary>
    private void Score(int batch, int head, int query, KeyRange visible, Span<float> w)
    {
        if (w.IsEmpty)
        {
            return;
        }
        float factor = terms.Factor(batch, head, query);
        for (int n = 0; n < w.Length; n++)
        {
            w[n] = (factor * w[n]) + terms.Bias(problem, head, query, visible.First + n);
        }
        TensorPrimitives.Subtract(w, TensorPrimitives.Max<float>(w), w);
        TensorPrimitives.Exp<float>(w, w);
        TensorPrimitives.Divide(w, TensorPrimitives.Sum<float>(w), w);
    }

    private void Add(
        Row row, Gradients result, HostArray<float> outputGradient, PlainEpilogue epilogue, int batch, int head, int query)
    {
        KeyRange visible = problem.Visible(query);
        int count = visible.Count;
        if (count <= 0)
        {
            return;
        }
        int keyHead = problem.KeyHead(head);
        Span<float> products = row.Products.AsSpan(0, count);
        Span<float> w = row.Weights.AsSpan(0, count);
        Products(batch, head, query, visible, products);
        products.CopyTo(w);
        Score(batch, head, query, visible, w);

        float sigmoid = 1;
        if (epilogue.Gate is { } gate)
        {
            sigmoid = 1 / (1 + MathF.Exp(-gate[(((batch * problem.QueryHeads) + head) * problem.Queries) + query]));
        }
        float factor = (float)epilogue.Constants.OutputScale * sigmoid;
        Span<float> output = row.Output;
        output.Clear();
        for (int n = 0; n < count; n++)
        {
            TensorPrimitives.MultiplyAdd(v.Row(batch, keyHead, visible.First + n), Round(w[n]), output, output);
        }
        TensorPrimitives.Multiply(output, factor, output);
        Round(output);
        ReadOnlySpan<float> upstream = outputGradient.Row(batch, head, query);
        if (result.Gate is { } gateGradient)
        {
            gateGradient.Row(batch, head, query)[0] = (1 - sigmoid) * TensorPrimitives.Dot(upstream, output);
        }
        Span<float> dx = row.OutputGradient;
        TensorPrimitives.Multiply(upstream, factor, dx);
        Round(dx);

        float delta = factor == 0 ? 0 : TensorPrimitives.Dot<float>(dx, output) / factor;
        float scale = terms.Scale * terms.Factor(batch, head, query);
        float rowFactor = 0;
        Span<float> dq = result.Query.Row(batch, head, query);
        ReadOnlySpan<float> queryRow = q.Row(batch, head, query);
        for (int n = 0; n < count; n++)
        {
            int key = visible.First + n;
            Span<float> dv = result.Value.Row(batch, keyHead, key);
            TensorPrimitives.MultiplyAdd(dx, Round(w[n]), dv, dv);
            float ds = Round(w[n] * (TensorPrimitives.Dot<float>(dx, v.Row(batch, keyHead, key)) - delta));
            rowFactor += ds * products[n];
            TensorPrimitives.MultiplyAdd(k.Row(batch, keyHead, key), scale * ds, dq, dq);
            Span<float> dk = result.Key.Row(batch, keyHead, key);
            TensorPrimitives.MultiplyAdd(queryRow, scale * ds, dk, dk);
        }
        if (result.RowFactor is { } factors)
        {
            factors.Row(batch, head, query)[0] = rowFactor;
        }
    }

    private float Round(float value) => PlainEvaluation.Round(value, type);

    private void Round(HostArray<float> array) => Round(array.Data);

    private void Round(Span<float> values)
    {
        for (int n = 0; n < values.Length; n++)
        {
            values[n] = Round(values[n]);
        }
    }

    /// <summary>Scratch of one task.</summary>
    private sealed class Row(AttentionProblem problem)
    {
        public float[] Products { get; } = new float[problem.Keys];

        public float[] Weights { get; } = new float[problem.Keys];

        public float[] Output { get; } = new float[problem.ValueDim];

        public float[] OutputGradient { get; } = new float[problem.ValueDim];
    }
}
