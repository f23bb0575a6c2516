using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// The CUDA kernels of softmax attention against the float64 reference, by the rule of twice the error of plain arithmetic, three times
/// for gradients. Each case runs on every family of kernels that the device has for its size.
/// </summary>
// In parallel because the float64 reference takes most of the time; it also shows that a device may be shared.
[Parallelizable(ParallelScope.All)]
[TestFixture(TensorType.BFloat16)]
[TestFixture(TensorType.Float16)]
internal sealed class SoftmaxKernelTests(TensorType type) : GpuFixture
{
    private static readonly int[] s_headDims = [32, 64, 96, 128, 256];

    private static IEnumerable<OneViewCase> All => SoftmaxKernelCases.All;

    private static IEnumerable<OneViewCase> Long => SoftmaxKernelCases.Long;

    private static IEnumerable<OneViewCase> Few => SoftmaxKernelCases.Few;

    [TestCaseSource(nameof(All))]
    public void Cases_of_all_kinds(OneViewCase test) => Check(test with { HeadDim = 64, ValueDim = 64 });

    [Test]
    public void All_head_dims([ValueSource(nameof(Few))] OneViewCase test, [ValueSource(nameof(s_headDims))] int headDim) =>
        Check(test with { HeadDim = headDim, ValueDim = headDim });

    [Test]
    public void Long_sequences([ValueSource(nameof(Long))] OneViewCase test, [Values(64, 128)] int headDim) =>
        Check(test with { HeadDim = headDim, ValueDim = headDim });

    [TestCase(AttentionDirection.Forward, 32, 64, 96, 128, 256)]
    [TestCase(AttentionDirection.Backward, 32, 64, 128)]
    [TestCase(AttentionDirection.Decode, 32, 64, 96, 128, 256)]
    public void Every_size_that_was_promised_has_a_kernel(AttentionDirection direction, params int[] headDims)
    {
        foreach (int headDim in headDims)
        {
            foreach (KernelPath path in (KernelPath[])[KernelPath.Automatic, KernelPath.Generic])
            {
                Assert.That(Device.Supports(AttentionOperation.Softmax, direction, path, type, headDim, headDim, out string reason), reason);
            }
        }
    }

    /// <summary>
    /// The sharp half of the test of these sums, whose error against float64 is chance (<see cref="RowFactorErrors"/>): the same factors given
    /// row by row have gradients row by row, and those of the parameters are their sums.
    /// </summary>
    [TestCase(RowFactorKind.Constant)]
    [TestCase(RowFactorKind.Ssmax)]
    [TestCase(RowFactorKind.Asentmax)]
    public void Gradients_of_parameters_are_sums_over_the_rows(RowFactorKind kind)
    {
        OneViewCase test = new("sums")
        {
            Batch = 2, QueryHeads = 4, Queries = 150, Keys = 170, HeadDim = 64, ValueDim = 64, RowFactorKind = kind, ParametersPerHead = true,
        };
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        RowFactor factor = problem.Options.Scores.RowFactor;
        HostArray<double> factors = problem.Options.Scores.ToTerms<double>(test.Problem, null).RowFactor!;
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        AttentionInputs given = inputs with { RowFactors = copies.Of(Values.Tensor(factors, TensorType.Float32)) };
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        ForEachPath(64, AttentionDirection.Backward, path =>
        {
            SoftmaxOptions options = problem.Options with { Kernels = Bitwise(path) };
            SoftmaxAttention ofParameters = new(Device, options);
            SoftmaxAttention ofRows = new(Device, options with { Scores = options.Scores with { RowFactor = RowFactor.PerRow } });
            using SoftmaxResult result = ofParameters.Forward(inputs);
            using AttentionGradients sums = ofParameters.AllocateGradients(inputs);
            using AttentionGradients rows = ofRows.AllocateGradients(given);
            ofParameters.Backward(inputs, result, outputGradient, sums);
            ofRows.Backward(given, result, outputGradient, rows);
            using AttentionTensor host = rows.RowFactor!.Rows!.ToHost();
            HostArray<double> gradients = HostArray<double>.Read(host);
            for (int h = 0; h < test.QueryHeads; h++)
            {
                AssertSum(h, factor.ValueSlope, sums.RowFactor!.Values[h], "value");
                if (kind == RowFactorKind.Asentmax)
                {
                    AssertSum(h, factor.ExponentSlope, sums.RowFactor.Exponents[h], "exponent");
                }
            }

            void AssertSum(int head, Slope slope, double actual, string what)
            {
                double[] terms = [.. Enumerable.Range(0, test.Batch * test.Queries).Select(n =>
                    gradients.Row(n / test.Queries, head, n % test.Queries)[0] * slope(test.Problem, head, n % test.Queries))];
                Assert.That(actual, Is.EqualTo(terms.Sum()).Within(1e-4 * terms.Sum(Math.Abs)), $"{path}, head {head}, {what}");
            }
        });
    }

    [TestCase("softmax-causal")]
    [TestCase("softmax-gqa-gate")]
    public void Golden_cases(string name)
    {
        OneViewGolden golden = OneViewGolden.Load(name, "reference");
        AttentionInputs inputs = golden.Inputs;
        // Kernels begin at head_dim 32: channels of zeros change nothing but the default scale.
        int headDim = inputs.Query.Shape.Channels;
        SoftmaxOptions options = new()
        {
            Scores = golden.Scores with { Scale = golden.Scores.Scale ?? (1 / Math.Sqrt(headDim)) }, Mask = golden.Mask,
        };
        AttentionInputs rounded = inputs with
        {
            Query = Padded(inputs.Query),
            Key = Padded(inputs.Key),
            Value = Padded(inputs.Value),
            Gate = inputs.Gate is null ? null : SoftmaxProblem.Rounded(inputs.Gate, TensorType.Float32),
        };
        Check(new SoftmaxProblem(rounded, options, Padded(golden.OutputGradient)), name);
    }

    [Test]
    public void The_trained_layer()
    {
        GoldenFile real = new("softmax", "real");
        AttentionInputs inputs = new()
        {
            Query = SoftmaxProblem.Rounded(real.Tensor("q")!, type),
            Key = SoftmaxProblem.Rounded(real.Tensor("k")!, type),
            Value = SoftmaxProblem.Rounded(real.Tensor("v")!, type),
        };
        AttentionTensor outputGradient = Values.Tensor(Values.Normal(new Random(5), inputs.Query.Shape.Count), inputs.Query.Shape, type);
        Check(new SoftmaxProblem(inputs, new SoftmaxOptions { Mask = real.Mask }, outputGradient), "trained layer");
    }

    [Test]
    public void Sequence_first_views_give_the_same_bits_as_dense_tensors([Values(KernelPath.Generic, KernelPath.Hopper)] KernelPath path)
    {
        OneViewCase test = new("strides")
        {
            Batch = 2, QueryHeads = 4, KeyHeads = 2, Queries = 130, Keys = 170, HeadDim = 64, ValueDim = 64, Gate = true,
        };
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        RequirePath(path, 64);
        SoftmaxAttention attention = new(Device, problem.Options with { Kernels = Bitwise(path) });
        using DeviceCopies dense = new(Device);
        using DeviceCopies strided = new(Device, sequenceFirst: true);
        AttentionInputs denseInputs = dense.Of(problem.Inputs);
        AttentionInputs stridedInputs = strided.Of(problem.Inputs);
        using SoftmaxResult expected = attention.Forward(denseInputs);
        using AttentionTensor output = AttentionTensor.Allocate(type, new TensorShape(2, 130, 4, 64), Device);
        using AttentionTensor lse = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(2, 130, 4, 1), Device);
        using SoftmaxResult actual = new(output.Permute(0, 2, 1, 3), lse.Permute(0, 2, 1, 3));
        attention.Forward(stridedInputs, actual);
        Assert.That(DeviceMemory.Bits(actual.Output), Is.EqualTo(DeviceMemory.Bits(expected.Output)));
        Assert.That(DeviceMemory.Bits(actual.LogSumExp), Is.EqualTo(DeviceMemory.Bits(expected.LogSumExp)));
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Backward, path, type, 64, 64, out string reason))
        {
            Assert.Ignore(reason);
        }

        using AttentionGradients first = attention.AllocateGradients(denseInputs);
        using AttentionGradients second = attention.AllocateGradients(denseInputs);
        attention.Backward(denseInputs, expected, dense.Of(problem.OutputGradient!), first);
        attention.Backward(stridedInputs, actual, strided.Of(problem.OutputGradient!), second);
        Assert.That(DeviceMemory.Bits(second.Query), Is.EqualTo(DeviceMemory.Bits(first.Query)));
        Assert.That(DeviceMemory.Bits(second.Key), Is.EqualTo(DeviceMemory.Bits(first.Key)));
        Assert.That(DeviceMemory.Bits(second.Value), Is.EqualTo(DeviceMemory.Bits(first.Value)));
    }

    [Test]
    public void Float32_results_round_to_the_16_bit_results([Values(KernelPath.Generic, KernelPath.Hopper)] KernelPath path)
    {
        SoftmaxProblem problem = SoftmaxProblem.Of(new OneViewCase("float32") { Queries = 130, Keys = 130, HeadDim = 64, ValueDim = 64 }, type);
        RequirePath(path, 64);
        SoftmaxAttention attention = new(Device, problem.Options with { Kernels = Bitwise(path) });
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        using SoftmaxResult narrow = attention.Forward(inputs);
        using SoftmaxResult wide = new(
            AttentionTensor.Allocate(TensorType.Float32, narrow.Output.Shape, Device),
            AttentionTensor.Allocate(TensorType.Float32, narrow.LogSumExp.Shape, Device));
        attention.Forward(inputs, wide);
        double[] rounded = Array.ConvertAll(DeviceMemory.Download(wide.Output), value => Values.Round(value, type));
        Assert.That(rounded, Is.EqualTo(DeviceMemory.Download(narrow.Output)));
    }

    [Test]
    public void Packed_sequences_are_computed_as_if_each_were_alone()
    {
        PackedSequences packed = new([0, 1, 1, 130, 387, 400], [0, 1, 1, 130, 387, 590]);
        OneViewCase test = new("packed")
        {
            Queries = 400, Keys = 590, QueryHeads = 4, HeadDim = 64, ValueDim = 64, Gate = true, RowFactorKind = RowFactorKind.PerRow,
        };
        SoftmaxProblem whole = SoftmaxProblem.Of(test, type);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(whole.Inputs);
        ForEachPath(64, AttentionDirection.Forward, path =>
        {
            SoftmaxAttention attention = new(Device, whole.Options with { Kernels = new KernelOptions { Path = path } });
            using SoftmaxResult result = attention.Forward(inputs, packed);
            bool backward = HasBackward(path, 64);
            using AttentionGradients? gradients = backward
                ? attention.Backward(inputs, copies.Of(whole.OutputGradient!), packed)
                : null;
            packed.ForEach(part =>
            {
                SoftmaxProblem alone = new(
                    part.Inputs(whole.Inputs), whole.Options, part.Queries(whole.OutputGradient!, "gradient"));
                string what = $"{path}, sequence of {part.QueryCount} queries, {part.KeyCount} keys";
                alone.AssertForward(
                    DeviceMemory.Download(part.Queries(result.Output, "output")),
                    DeviceMemory.Download(part.Queries(result.LogSumExp, "lse")),
                    what);
                if (gradients is not null)
                {
                    Dictionary<string, double[]> named = new()
                    {
                        ["q"] = DeviceMemory.Download(part.Queries(gradients.Query, "q")),
                        ["k"] = DeviceMemory.Download(part.Keys(gradients.Key, "k")),
                        ["v"] = DeviceMemory.Download(part.Keys(gradients.Value, "v")),
                        ["gate"] = DeviceMemory.Download(part.Queries(gradients.Gate!, "gate")),
                        ["row_factors"] = DeviceMemory.Download(part.Queries(gradients.RowFactor!.Rows!, "row factors")),
                    };
                    alone.AssertGradients(named, what);
                }
            });
        });
    }

    [Test]
    public void Key_lengths_in_device_memory_end_each_entry()
    {
        int[] lengths = [203, 1, 64, 129];
        OneViewCase test = new("key lengths") { Batch = 4, Queries = 60, Keys = 203, QueryHeads = 4, HeadDim = 64, ValueDim = 64 };
        SoftmaxProblem whole = SoftmaxProblem.Of(test, type);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(
            whole.Inputs with { KeyLengths = AttentionTensor.From<int>(lengths, new TensorShape(1, 1, 1, 4)) });
        AttentionTensor outputGradient = copies.Of(whole.OutputGradient!);
        ForEachPath(64, AttentionDirection.Forward, path =>
        {
            SoftmaxAttention attention = new(Device, whole.Options with { Kernels = new KernelOptions { Path = path } });
            using SoftmaxResult result = attention.Forward(inputs);
            using AttentionGradients? gradients = HasBackward(path, 64) ? attention.Backward(inputs, outputGradient) : null;
            for (int b = 0; b < lengths.Length; b++)
            {
                int entry = b;
                SoftmaxProblem alone = new(
                    new AttentionInputs
                    {
                        Query = Entry(whole.Inputs.Query),
                        Key = Entry(whole.Inputs.Key).Slice(2, 0, lengths[b]),
                        Value = Entry(whole.Inputs.Value).Slice(2, 0, lengths[b]),
                    },
                    whole.Options,
                    Entry(whole.OutputGradient!));
                string what = $"{path}, entry of {lengths[b]} keys";
                alone.AssertForward(
                    DeviceMemory.Download(Entry(result.Output)), DeviceMemory.Download(Entry(result.LogSumExp)), what);
                if (gradients is null)
                {
                    continue;
                }

                alone.AssertGradients(
                    new Dictionary<string, double[]>
                    {
                        ["q"] = DeviceMemory.Download(Entry(gradients.Query)),
                        ["k"] = DeviceMemory.Download(Entry(gradients.Key).Slice(2, 0, lengths[b])),
                        ["v"] = DeviceMemory.Download(Entry(gradients.Value).Slice(2, 0, lengths[b])),
                    },
                    what);
                if (lengths[b] < test.Keys)
                {
                    int rest = test.Keys - lengths[b];
                    Assert.That(DeviceMemory.Download(Entry(gradients.Key).Slice(2, lengths[b], rest)), Has.All.Zero, what);
                    Assert.That(DeviceMemory.Download(Entry(gradients.Value).Slice(2, lengths[b], rest)), Has.All.Zero, what);
                }

                AttentionTensor Entry(AttentionTensor tensor) => tensor.Slice(0, entry, 1);
            }
        });
    }

    private delegate double Slope(in AttentionProblem problem, int head, int row);

    private static KernelOptions Bitwise(KernelPath path) => new() { Path = path, Repeatability = Repeatability.Bitwise };

    private AttentionTensor Padded(AttentionTensor tensor)
    {
        HostArray<double> source = HostArray<double>.Read(tensor);
        HostArray<double> target = new(tensor.Shape with { Channels = Math.Max(32, tensor.Shape.Channels) });
        for (int b = 0; b < tensor.Shape.Batch; b++)
        {
            for (int h = 0; h < tensor.Shape.Heads; h++)
            {
                for (int r = 0; r < tensor.Shape.Rows; r++)
                {
                    source.Row(b, h, r).CopyTo(target.Row(b, h, r));
                }
            }
        }

        return Values.Tensor(target, type);
    }

    private void Check(OneViewCase test) => Check(SoftmaxProblem.Of(test, type), $"{test.Name}, head_dim {test.HeadDim}");

    /// <summary>Forward, and where there are kernels both kinds of backward, on every path.</summary>
    private void Check(SoftmaxProblem problem, string name)
    {
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        int headDim = inputs.Query.Shape.Channels;
        ForEachPath(headDim, AttentionDirection.Forward, path =>
        {
            string what = $"{name}, {type}, {path}";
            SoftmaxAttention attention = new(Device, problem.Options with { Kernels = new KernelOptions { Path = path } });
            using SoftmaxResult result = attention.Forward(inputs);
            Assert.That(result.Output.Type, Is.EqualTo(type));
            problem.AssertForward(result, what);
            if (problem.Options.Epilogue.Norm != OutputNorm.None || !HasBackward(path, headDim))
            {
                return;
            }

            foreach (Repeatability repeatability in Enum.GetValues<Repeatability>())
            {
                SoftmaxAttention backward = new(
                    Device, problem.Options with { Kernels = new KernelOptions { Path = path, Repeatability = repeatability } });
                using AttentionGradients gradients = backward.AllocateGradients(inputs);
                backward.Backward(inputs, result, outputGradient, gradients);
                problem.AssertGradients(gradients, $"{what}, {repeatability}");
            }
        });
    }

    private bool HasBackward(KernelPath path, int headDim) =>
        Device.Supports(AttentionOperation.Softmax, AttentionDirection.Backward, path, type, headDim, headDim, out _);

    private void RequirePath(KernelPath path, int headDim)
    {
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Forward, path, type, headDim, headDim, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    private void ForEachPath(int headDim, AttentionDirection direction, Action<KernelPath> work)
    {
        string reason = "";
        int ran = 0;
        foreach (KernelPath path in (KernelPath[])[KernelPath.Generic, KernelPath.Hopper])
        {
            if (Device.Supports(AttentionOperation.Softmax, direction, path, type, headDim, headDim, out reason))
            {
                work(path);
                ran++;
            }
        }

        if (ran == 0)
        {
            Assert.Ignore(reason);
        }
    }
}
