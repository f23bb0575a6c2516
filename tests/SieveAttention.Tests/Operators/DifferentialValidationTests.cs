using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Every bad input of differential attention has one clear error: the name, the value received and what is allowed.</summary>
internal sealed class DifferentialValidationTests
{
    private static readonly DifferentialCase s_case = new("valid") { QueryHeads = 4, KeyHeads = 2, Queries = 3, Keys = 5 };

    private static readonly DifferentialCase s_vectors = s_case with
    {
        Vectors = true,
        Options = new DifferentialOptions { LambdaInit = 0.47 },
    };

    private static readonly TestCaseData<DifferentialOptions, string, string>[] s_badOptions =
    [
        Bad(new(), "Lambda is absent", "LambdaInit with the inputs' LambdaVectors"),
        Bad(new() { Lambda = [] }, "Lambda.Count is 0", "1 to"),
        Bad(new() { Lambda = [0.1, double.NaN] }, "Lambda is NaN", "finite"),
        Bad(new() { Lambda = [double.PositiveInfinity] }, "Lambda is Infinity", "finite"),
        Bad(new() { LambdaInit = double.NaN }, "LambdaInit is NaN", "finite"),
        Bad(
            new() { Lambda = [0], Scores = new ScoreOptions { RowFactor = RowFactor.Ssmax(0.4) } },
            "RowFactor is Ssmax",
            "None; differential attention has no row factor"),
        Bad(new() { Lambda = [0], Scores = new ScoreOptions { Scale = double.NaN } }, "Scale is NaN", "finite"),
        Bad(new() { Lambda = [0], Mask = new AttentionMask { Window = 0 } }, "Window is 0", "1 to"),
        Bad(
            new() { Lambda = [0], Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms } },
            "NormEpsilon is absent",
            "because Norm is Rms"),
    ];

    private static readonly AttentionDevice[] s_devices = [AttentionDevice.Reference, AttentionDevice.Cpu];

    [TestCaseSource(nameof(s_badOptions))]
    public void A_parameter_out_of_range_is_refused(DifferentialOptions options, string received, string allowed)
    {
        Assert.That(
            () => new DifferentialAttention(AttentionDevice.Reference, options),
            Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains(received).And.Message.Contains(allowed));
    }

    [TestCaseSource(nameof(s_devices))]
    public void A_misshapen_tensor_is_named_with_its_shape_and_the_expected_one(AttentionDevice device)
    {
        DifferentialInputs inputs = s_case.Inputs();
        DifferentialInputs vectors = s_vectors.Inputs();
        Assert.Multiple(() =>
        {
            AssertRefused(s_case, device, inputs with { Key1 = inputs.Key1.Slice(3, 0, 3) }, "Key1", "[1, 2, 5, 3]", "[1, 2, 5, 4]");
            AssertRefused(s_case, device, inputs with { Key2 = inputs.Key2.Slice(1, 0, 1) }, "Key2", "[1, 1, 5, 4]", "[1, 2, 5, 4]");
            AssertRefused(s_case, device, inputs with { Query2 = inputs.Query2.Slice(2, 0, 2) }, "Query2", "[1, 4, 2, 4]", "[1, 4, 3, 4]");
            AssertRefused(s_case, device, inputs with { Value = inputs.Value.Slice(2, 0, 4) }, "Value", "[1, 2, 4, 8]", "[1, 2, 5, 8]");
            AssertRefused(s_case, device, inputs with { Gate = inputs.Query1 }, "Gate", "[1, 4, 3, 4]", "[1, 4, 3, 1]");
            AssertRefused(
                s_vectors,
                device,
                vectors with { LambdaVectors = vectors.LambdaVectors!.Slice(2, 0, 3) },
                "LambdaVectors",
                "[1, 1, 3, 4]",
                "[1, 1, 4, head_dim] = [1, 1, 4, 4]");
        });
    }

    [Test]
    public void Lambda_and_its_vectors_have_to_go_together()
    {
        DifferentialInputs without = s_vectors.Inputs() with { LambdaVectors = null };
        DifferentialInputs with = s_vectors.Inputs();
        AttentionDevice device = AttentionDevice.Reference;
        Assert.Multiple(() =>
        {
            AssertRefused(s_vectors, device, without, "LambdaVectors", "LambdaInit is 0.47", "Lambda without both");
            AssertRefused(s_case, device, with, "LambdaVectors", "LambdaInit is absent", "both, or neither");
            AssertRefused(With(s_case, [0.1, 0.2, 0.3]), device, without, "Lambda", "3 values", "each of the 4 query heads");
            AssertRefused(With(s_vectors, [0.9]), device, with, "Lambda", "Lambda is 0.9", "within 0.0001");
            AssertRefused(With(s_vectors, [0.9, 0.9, 0.9, 0.9]), device, with, "Lambda", "0.9, 0.9", "one value");
        });
    }

    [Test]
    public void A_lambda_beside_the_vectors_may_be_rounded()
    {
        DifferentialInputs inputs = s_vectors.Inputs();
        double[] expected = s_vectors.Forward(inputs);
        double[] v = Values.Doubles(inputs.LambdaVectors!);
        double Dot(int row) => Enumerable.Range(0, 4).Sum(c => v[(4 * row) + c] * v[(4 * row) + 4 + c]);
        double lambda = Math.Exp(Dot(0)) - Math.Exp(Dot(2)) + 0.47;
        Assert.That(With(s_vectors, [lambda + 9e-5]).Forward(inputs), Is.EqualTo(expected));
        AssertRefused(With(s_vectors, [lambda + 1.1e-4]), AttentionDevice.Cpu, inputs, "Lambda", "LambdaVectors give", "within 0.0001");
    }

    [Test]
    public void Vectors_whose_exponential_overflows_are_refused()
    {
        double[] huge = new double[16];
        Array.Fill(huge, 40);
        AssertRefused(
            s_vectors,
            AttentionDevice.Reference,
            s_vectors.Inputs() with { LambdaVectors = Values.Tensor(huge, new TensorShape(1, 1, 4, 4)) },
            "LambdaVectors",
            "a lambda of NaN",
            "a finite number");
    }

    [Test]
    public void Slopes_are_one_for_each_query_head()
    {
        DifferentialCase test = s_case with
        {
            Options = s_case.Options with { Scores = new ScoreOptions { AlibiSlopes = [0.1, 0.2] } },
        };
        AssertRefused(test, AttentionDevice.Cpu, test.Inputs(), "AlibiSlopes", "2 values", "4 query heads");
    }

    [Test]
    public void A_missing_tensor_is_named()
    {
        Assert.Multiple(() =>
        {
            AssertMissing(s_case.Inputs() with { Query1 = null! }, "Query1");
            AssertMissing(s_case.Inputs() with { Query2 = null! }, "Query2");
            AssertMissing(s_case.Inputs() with { Key2 = null! }, "Key2");
            AssertMissing(s_case.Inputs() with { Value = null! }, "Value");
        });
    }

    [Test]
    public void Outputs_and_upstream_gradients_are_checked_too()
    {
        DifferentialInputs inputs = s_case.Inputs();
        AttentionTensor output = AttentionTensor.Allocate(TensorType.Float64, s_case.OutputShape);
        AttentionTensor rows = AttentionTensor.Allocate(TensorType.Float64, s_case.RowShape);
        AttentionTensor half = AttentionTensor.Allocate(TensorType.Float16, s_case.RowShape);
        Assert.Multiple(() =>
        {
            AssertOutputRefused(new(rows, rows, rows), "Output has shape [1, 4, 3, 1]");
            AssertOutputRefused(new(output, output, rows), "LogSumExp1 has shape [1, 4, 3, 8]");
            AssertOutputRefused(new(output, rows, half), "LogSumExp2 has elements of type Float16; allowed: Float64, Float32");
            Assert.That(
                () => s_case.Operator().Backward(inputs, rows),
                Throws.ArgumentException.With.Message.Contains("outputGradient has shape [1, 4, 3, 1]"));
        });

        void AssertOutputRefused(DifferentialResult into, string message) =>
            Assert.That(() => s_case.Operator().Forward(inputs, into), Throws.ArgumentException.With.Message.Contains(message));
    }

    private static DifferentialCase With(DifferentialCase test, double[] lambda) =>
        test with { Options = test.Options with { Lambda = lambda } };

    private static TestCaseData<DifferentialOptions, string, string> Bad(DifferentialOptions options, string received, string allowed) =>
        new(options, received, allowed);

    private static void AssertMissing(DifferentialInputs inputs, string name) => Assert.That(
        () => s_case.Operator().Forward(inputs),
        Throws.ArgumentNullException.With.Property(nameof(ArgumentException.ParamName)).Contains(name));

    private static void AssertRefused(
        DifferentialCase test, AttentionDevice device, DifferentialInputs inputs, string name, string received, string allowed)
    {
        Assert.That(
            () => test.Operator(device).Forward(inputs),
            Throws.TypeOf<ArgumentException>()
                .With.Property(nameof(ArgumentException.ParamName)).EqualTo(name)
                .And.Message.Contains(received).And.Message.Contains(allowed));
    }
}
