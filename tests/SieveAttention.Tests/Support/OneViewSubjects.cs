namespace SieveAttention.Tests.Support;

/// <summary>Every operator with one view, in the forms that differ.</summary>
internal static class OneViewSubjects
{
    public static OneViewSubject[] All { get; } =
    [
        new SoftmaxSubject(),
        new EntmaxSubject(1.5),
        new EntmaxSubject(2),
        new EntmaxSubject(1.75),
        new EntmaxSubject(1.3),
        new SupportBasisSubject(degree: 2, bound: 1.2, tile: 2),
        new SupportBasisSubject(degree: 2, bound: 100, tile: 64),
        new SupportBasisSubject(degree: 1, bound: 0.9, tile: 1),
        new SupportBasisSubject(degree: 2, bound: 0, tile: 3),
        new RowFunctionSubject("softpick", _ => new SoftpickWeights()),
        new RowFunctionSubject("sigmoid", bias => new SigmoidWeights { Bias = bias }, centre: -0.7),
        new RowFunctionSubject("sigmoid with -ln n", _ => new SigmoidWeights()),
        new RowFunctionSubject("elastic", tau => new ElasticSoftmaxWeights { Tau = tau }, centre: -0.8),
        new RowFunctionSubject("elastic with a bias by distance", tau => new ElasticSoftmaxWeights { Tau = tau }, centre: -0.6, distances: 3),
        new RowFunctionSubject("affine", _ => new AffineWeights(), affine: true),
        new RowFunctionSubject("affine without shift", _ => new AffineWeights(), affine: true, shift: false),
        new RowFunctionSubject("alpha-ReLU 1.5", tau => new AlphaReluWeights { Tau = tau }, centre: -0.2),
        new RowFunctionSubject("alpha-ReLU 2", tau => new AlphaReluWeights { Alpha = 2, Tau = tau }, centre: -0.2),
    ];
}
