using SieveAttention.Cpu.Rows;
using SieveAttention.Tests.Support;
using Float64 = SieveAttention.Reference;

namespace SieveAttention.Tests.Cpu;

/// <summary>A row function of the Cpu device beside the one of the reference, with what both say besides weights.</summary>
/// <param name="Cpu">Float32.</param>
/// <param name="Reference">Float64.</param>
/// <param name="Outputs">Values of rows, of Cpu and of the reference.</param>
/// <param name="Gradients">Gradients of parameters, of Cpu and of the reference.</param>
internal sealed record RowFunctionPair(
    RowFunction Cpu,
    Float64.RowFunction Reference,
    Func<(double[] Cpu, double[] Reference)> Outputs,
    Func<(double[] Cpu, double[] Reference)> Gradients)
{
    private static readonly Func<(double[], double[])> s_none = () => ([], []);

    internal static readonly string[] Names =
    [
        "entmax 2", "entmax 1.5", "entmax 1.75", "entmax 1.25", "entmax 1.1", "softpick", "sigmoid", "sigmoid bias", "elastic", "elastic bias",
        "affine", "affine without shift", "alpha relu 1.5", "alpha relu 1.3",
        "support basis 1", "support basis 2", "support basis exact", "support basis tile 3",
    ];

    internal static RowFunctionPair Make(string name, RowCase c)
    {
        AttentionProblem problem = c.Problem;
        string[] words = name.Split(' ');
        return words[0] switch
        {
            "entmax" => Entmax(problem, double.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture)),
            "softpick" => new(new SoftpickRow(1e-6), new Float64.SoftpickRow(1e-6), s_none, s_none),
            "sigmoid" => Sigmoid(problem, words.Length > 1 ? PerHead(problem, -1) : null),
            "elastic" => Elastic(problem, PerHead(problem, -1), words.Length > 1),
            "affine" => Affine(c, shift: words.Length == 1),
            "alpha" => AlphaRelu(problem, double.Parse(words[2], System.Globalization.CultureInfo.InvariantCulture), PerHead(problem, 0.2)),
            _ => words[2] switch
            {
                "exact" => SupportBasis(c, 0, 64, 2),
                "tile" => SupportBasis(c, 4, 3, 2),
                _ => SupportBasis(c, words[2] == "1" ? 0.9 : 4, 16, int.Parse(words[2], System.Globalization.CultureInfo.InvariantCulture)),
            },
        };
    }

    private static double[] PerHead(AttentionProblem problem, double value) =>
        [.. Enumerable.Range(1, problem.QueryHeads).Select(head => (double)(float)(value / head))];

    private static RowFunctionPair Entmax(AttentionProblem problem, double alpha)
    {
        // Each head a little less than the one before, so that a wrong head shows; the first exactly alpha.
        double[] alphas = [.. Enumerable.Range(0, problem.QueryHeads).Select(head => alpha - (0.05 * head * (alpha - 1)))];
        EntmaxRow cpu = new(problem, alphas);
        Float64.EntmaxRow reference = new(problem, alphas);
        return new(
            cpu,
            reference,
            () => (
                [.. RowCase.Wide(cpu.Tau), .. cpu.Support.Select(n => (double)n)],
                [.. reference.Tau, .. reference.Support.Select(n => (double)n)]),
            () => (cpu.AlphaGradient, reference.AlphaGradient));
    }

    private static RowFunctionPair Sigmoid(AttentionProblem problem, double[]? bias)
    {
        SigmoidRow cpu = new(problem, bias);
        Float64.SigmoidRow reference = new(problem, bias);
        return new(cpu, reference, s_none, () => (cpu.BiasGradient, reference.BiasGradient));
    }

    private static RowFunctionPair Elastic(AttentionProblem problem, double[] tau, bool withBias)
    {
        HostArray<float>? bias = null;
        if (withBias)
        {
            bias = new HostArray<float>(new TensorShape(1, problem.QueryHeads, 1, 70));
            Array.ConvertAll(Values.Normal(new Random(9), bias.Data.Length), x => (float)x).CopyTo(bias.Data, 0);
        }

        ElasticSoftmaxRow cpu = new(problem, tau, bias is null ? null : new DistanceBias(problem, bias));
        Float64.ElasticSoftmaxRow reference = new(problem, tau, bias is null ? null : RowCase.Wide(bias));
        return new(
            cpu,
            reference,
            s_none,
            () => (
                [.. cpu.TauGradient, .. RowCase.Wide(cpu.BiasGradient?.Data ?? [])],
                [.. reference.TauGradient, .. reference.BiasGradient?.Data ?? []]));
    }

    private static RowFunctionPair AlphaRelu(AttentionProblem problem, double alpha, double[] tau)
    {
        AlphaReluRow cpu = new(problem, alpha, tau);
        Float64.AlphaReluRow reference = new(problem, alpha, tau);
        return new(cpu, reference, s_none, () => (cpu.TauGradient, reference.TauGradient));
    }

    private static RowFunctionPair Affine(RowCase c, bool shift)
    {
        RowCase numbers = new(c.Problem, rowFactor: true, seed: 5);
        RowCase others = new(c.Problem, rowFactor: true, seed: 6);
        HostArray<float> a = numbers.Terms.RowFactor!;
        HostArray<float>? b = shift ? others.Terms.RowFactor! : null;
        AffineRow cpu = new(c.Problem, a, b);
        Float64.AffineRow reference = new(c.Problem, RowCase.Wide(a), b is null ? null : RowCase.Wide(b));
        return new(
            cpu,
            reference,
            s_none,
            () => ([.. RowCase.Wide(cpu.FactorGradient.Data), .. RowCase.Wide(cpu.ShiftGradient?.Data ?? [])],
                [.. reference.FactorGradient.Data, .. reference.ShiftGradient?.Data ?? []]));
    }

    private static RowFunctionPair SupportBasis(RowCase c, double bound, int tile, int degree)
    {
        Float64.SupportBasisTiles tiles = new(
            c.Problem, c.ReferenceTerms, RowCase.Wide(c.Query), RowCase.Wide(c.Key), bound, tile);
        return new(new SupportBasisRow(c.Problem, tiles, tile, degree), new Float64.SupportBasisRow(tiles, degree), s_none, s_none);
    }
}
