using System.Numerics.Tensors;
using SieveAttention.Cpu.Threshold;

namespace SieveAttention.Cli.Verification;

/// <summary>
/// The gradients of threshold differential attention in a 16-bit type without any care: operands as given, scores and sums in float32, and
/// everything that would be stored as a tensor (weights, upstream gradient before the norm, gradients of scores, results) rounded to the type.
/// </summary>
/// <param name="type">The type.</param>
/// <param name="problem">Sizes and masks.</param>
/// <param name="options">Parameters.</param>
/// <param name="q">Queries of either view.</param>
/// <param name="k">Keys of either view.</param>
/// <param name="v">Values.</param>
internal sealed class PlainThresholdDifferential(
    TensorType type, AttentionProblem problem, ThresholdDifferentialOptions options, HostArray<float>[] q, HostArray<float>[] k, HostArray<float> v)
{
    private const float Shortest = 1e-12f;

    private readonly float _power = (float)options.Power;

    /// <summary>Gradients, those of queries, keys and values rounded to the type.</summary>
    internal sealed record Gradients(
        HostArray<float>[] Queries,
        HostArray<float>[] Keys,
        HostArray<float> Value,
        float[] NormGain,
        HostArray<float> Gate,
        double Beta,
        double Kappa,
        double Lambda);

    /// <summary>Computes them.</summary>
    public Gradients Backward(HostArray<float> outputGradient, PlainEpilogue epilogue)
    {
        HostArray<float>[] queries = [new(problem.QueryShape), new(problem.QueryShape)];
        HostArray<float>[] keys = [new(problem.KeyShape), new(problem.KeyShape)];
        HostArray<float> value = new(problem.ValueShape);
        HostArray<float> gate = new(problem.RowShape);
        Sums sums = new(problem.ValueDim);
        int group = problem.QueryHeads / problem.KeyHeads;
        // Query heads that share keys add to the same gradients: one task for each key head.
        Parallel.For(0, problem.Batch * problem.KeyHeads, task =>
        {
            Row row = new(problem);
            Sums own = new(problem.ValueDim);
            int batch = task / problem.KeyHeads;
            int keyHead = task % problem.KeyHeads;
            for (int head = keyHead * group; head < (keyHead + 1) * group; head++)
            {
                for (int query = 0; query < problem.Queries; query++)
                {
                    row.Begin(batch, head, query);
                    Forward(row);
                    gate.Row(batch, head, query)[0] = Upstream(row, outputGradient.Row(batch, head, query), epilogue, own);
                    Add(row, queries, keys, value, own);
                }
            }

            for (int view = 0; view < 2; view++)
            {
                for (int key = 0; key < problem.Keys; key++)
                {
                    Project(keys[view].Row(batch, keyHead, key), k[view].Row(batch, keyHead, key));
                }
            }

            lock (sums)
            {
                sums.Add(own);
            }
        });
        foreach (HostArray<float> tensor in (HostArray<float>[])[.. queries, .. keys, value])
        {
            Round(tensor.Data);
        }

        return new(queries, keys, value, sums.NormGain, gate, sums.Beta, sums.Kappa, sums.Lambda);
    }

    private void Forward(Row row)
    {
        KeyRange visible = problem.Visible(row.Query);
        float tau = RowThreshold.Tau(options.Beta, RowThreshold.Unit(visible.Count, options.Kappa, problem.HeadDim));
        int keyHead = problem.KeyHead(row.Head);
        row.Output.AsSpan().Clear();
        for (int key = visible.First; key < visible.End; key++)
        {
            for (int view = 0; view < 2; view++)
            {
                ReadOnlySpan<float> a = q[view].Row(row.Batch, row.Head, row.Query);
                ReadOnlySpan<float> b = k[view].Row(row.Batch, keyHead, key);
                row.Excess[view][key] = (TensorPrimitives.Dot(a, b) / (Length(a) * Length(b))) - tau;
            }

            float weight = Power(row.Excess[0][key], _power) - ((float)options.Lambda * Power(row.Excess[1][key], _power));
            row.Weights[key] = Round(weight);
            if (weight != 0)
            {
                TensorPrimitives.MultiplyAdd(v.Row(row.Batch, keyHead, key), row.Weights[key], row.Output, row.Output);
            }
        }
    }

    /// <summary>From the gradient of the output to that of the sums before the epilogue; returns that of the gate's logit.</summary>
    private float Upstream(Row row, ReadOnlySpan<float> outputGradient, PlainEpilogue epilogue, Sums sums)
    {
        float sigmoid = 1;
        if (epilogue.Gate is { } gate)
        {
            sigmoid = 1 / (1 + MathF.Exp(-gate[(((row.Batch * problem.QueryHeads) + row.Head) * problem.Queries) + row.Query]));
        }

        float factor = (float)epilogue.Constants.OutputScale * sigmoid;
        Span<float> x = row.Output;
        Span<float> dx = row.OutputGradient;
        TensorPrimitives.Multiply(outputGradient, factor, dx);
        float ofGate;
        if (epilogue.Constants.Norm == OutputNorm.Rms)
        {
            float meanSquare = TensorPrimitives.SumOfSquares<float>(x) / x.Length;
            float r = 1 / MathF.Sqrt(meanSquare + (float)epilogue.Constants.NormEpsilon!.Value);
            r = float.IsFinite(r) ? r : 0;
            TensorPrimitives.Multiply(x, r, x);
            for (int c = 0; c < x.Length; c++)
            {
                sums.NormGain[c] += dx[c] * x[c];
                dx[c] *= epilogue.NormGain?[c] ?? 1;
            }

            ofGate = TensorPrimitives.Dot<float>(dx, x);
            float mean = ofGate / x.Length;
            for (int c = 0; c < x.Length; c++)
            {
                dx[c] = r * (dx[c] - (x[c] * mean));
            }
        }
        else
        {
            ofGate = TensorPrimitives.Dot<float>(dx, x);
        }

        Round(dx);
        return (1 - sigmoid) * ofGate;
    }

    private void Add(Row row, HostArray<float>[] queries, HostArray<float>[] keys, HostArray<float> value, Sums sums)
    {
        KeyRange visible = problem.Visible(row.Query);
        int keyHead = problem.KeyHead(row.Head);
        double ofThreshold = 0;
        for (int key = visible.First; key < visible.End; key++)
        {
            if (row.Excess[0][key] <= 0 && row.Excess[1][key] <= 0)
            {
                continue;
            }

            Span<float> dv = value.Row(row.Batch, keyHead, key);
            TensorPrimitives.MultiplyAdd(row.OutputGradient, row.Weights[key], dv, dv);
            float g = TensorPrimitives.Dot<float>(row.OutputGradient, v.Row(row.Batch, keyHead, key));
            sums.Lambda -= Power(row.Excess[1][key], _power) * g;
            for (int view = 0; view < 2; view++)
            {
                float e = row.Excess[view][key];
                float ds = e <= 0 ? 0 : (view == 0 ? 1 : -(float)options.Lambda) * _power * Power(e, _power - 1) * g;
                ofThreshold -= ds;
                ReadOnlySpan<float> a = q[view].Row(row.Batch, row.Head, row.Query);
                ReadOnlySpan<float> b = k[view].Row(row.Batch, keyHead, key);
                Span<float> dq = queries[view].Row(row.Batch, row.Head, row.Query);
                Span<float> dk = keys[view].Row(row.Batch, keyHead, key);
                TensorPrimitives.MultiplyAdd(b, Round(ds / Length(b)), dq, dq);
                TensorPrimitives.MultiplyAdd(a, Round(ds / Length(a)), dk, dk);
            }
        }

        for (int view = 0; view < 2; view++)
        {
            Project(queries[view].Row(row.Batch, row.Head, row.Query), q[view].Row(row.Batch, row.Head, row.Query));
        }

        double unit = RowThreshold.Unit(visible.Count, options.Kappa, problem.HeadDim);
        sums.Beta += ofThreshold * unit;
        sums.Kappa += ofThreshold * RowThreshold.SlopeByKappa(options.Beta, unit, options.Kappa, problem.HeadDim);
    }

    /// <summary>From the gradient of a unit vector to that of the vector.</summary>
    private static void Project(Span<float> gradient, ReadOnlySpan<float> vector)
    {
        float length = Length(vector);
        float along = length <= Shortest ? 0 : TensorPrimitives.Dot(gradient, vector) / (length * length);
        TensorPrimitives.MultiplyAdd(vector, -along, gradient, gradient);
        TensorPrimitives.Divide(gradient, length, gradient);
    }

    private static float Length(ReadOnlySpan<float> vector) => MathF.Max(TensorPrimitives.Norm(vector), Shortest);

    private static float Power(float e, float power) => e <= 0 ? 0 : MathF.Pow(e, power);

    private float Round(float value) => PlainEvaluation.Round(value, type);

    private void Round(Span<float> values)
    {
        for (int n = 0; n < values.Length; n++)
        {
            values[n] = Round(values[n]);
        }
    }

    /// <summary>What all rows add up to.</summary>
    private sealed class Sums(int valueDim)
    {
        public float[] NormGain { get; } = new float[valueDim];

        public double Beta { get; set; }

        public double Kappa { get; set; }

        public double Lambda { get; set; }

        public void Add(Sums other)
        {
            TensorPrimitives.Add(NormGain, other.NormGain, NormGain);
            Beta += other.Beta;
            Kappa += other.Kappa;
            Lambda += other.Lambda;
        }
    }

    /// <summary>Scratch of one task, for one query row after the other.</summary>
    private sealed class Row(AttentionProblem problem)
    {
        public int Batch { get; private set; }

        public int Head { get; private set; }

        public int Query { get; private set; }

        public float[][] Excess { get; } = [new float[problem.Keys], new float[problem.Keys]];

        public float[] Weights { get; } = new float[problem.Keys];

        public float[] Output { get; } = new float[problem.ValueDim];

        public float[] OutputGradient { get; } = new float[problem.ValueDim];

        public void Begin(int batch, int head, int query)
        {
            Batch = batch;
            Head = head;
            Query = query;
        }
    }
}
