using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>What a decoder gave for one sequence, in the layout of a prefill of these rows.</summary>
internal sealed record DecodedThreshold(double[] Output, int[] Survivors1, int[] Survivors2);

/// <summary>
/// The steps of a feed with two views in a 16-bit type, decoded by any device and judged as kernels are: against the rows of a prefill in
/// float64, at most twice the error of plain arithmetic, the same survivors but for scores too close to their threshold to tell. Decoding once
/// more starts from an empty cache.
/// </summary>
internal sealed class ThresholdDecodeTrial
{
    private readonly DecodeFeed _feed;
    private readonly TensorType _type;
    private readonly bool _gated;
    private readonly (ThresholdCase Case, ThresholdDifferentialInputs Inputs)[] _prefills;

    /// <param name="feed">Sequences and steps.</param>
    /// <param name="type">Of queries, keys and values.</param>
    /// <param name="options">Of the operator; its kernels do not matter here.</param>
    /// <param name="gated">Whether rows have a gate.</param>
    public ThresholdDecodeTrial(DecodeFeed feed, TensorType type, ThresholdDifferentialOptions options, bool gated = false)
    {
        _feed = feed;
        _type = type;
        _gated = gated;
        _prefills = [.. Enumerable.Range(0, feed.Prompts.Length).Select(s => (Case(s, options), Inputs(s)))];
    }

    /// <summary>Appends a prompt, [1, heads, rows, channels], to a sequence.</summary>
    public delegate void AppendPrompt(int sequence, AttentionTensor key1, AttentionTensor value, AttentionTensor key2);

    /// <summary>Appends the rows of a step, [sequences, heads, rows, channels].</summary>
    public delegate void AppendStep(AttentionTensor key1, AttentionTensor value, AttentionTensor key2);

    /// <summary>Decodes a step whose keys have been appended; tensors of inputs and result lie in host memory.</summary>
    public delegate ThresholdDifferentialResult DecodeStep(ThresholdDifferentialDecodeInputs inputs);

    /// <summary>The rows of all steps, of each sequence.</summary>
    public DecodedThreshold[] Run(AppendPrompt appendPrompt, AppendStep appendStep, DecodeStep decode)
    {
        for (int s = 0; s < _feed.Prompts.Length; s++)
        {
            if (_feed.Prompts[s] > 0)
            {
                appendPrompt(s, Prompt(_feed.Key(s), s), Prompt(_feed.Value(s), s), Prompt(_feed.Key(s, "k2"), s));
            }
        }

        DecodedThreshold[] decoded = [.. _feed.Prompts.Select(_ => new DecodedThreshold(
            new double[RowCount * _feed.ValueDim], new int[RowCount], new int[RowCount]))];
        for (int step = 0; step < _feed.Steps; step++)
        {
            appendStep(Step("k", step, _feed.HeadDim), Step("v", step, _feed.ValueDim), Step("k2", step, _feed.HeadDim));
            using ThresholdDifferentialResult result = decode(new ThresholdDifferentialDecodeInputs
            {
                Query1 = Typed(_feed.StepQuery(step)),
                Query2 = Typed(_feed.StepQuery(step, "q2")),
                Gate = _gated ? SoftmaxProblem.Rounded(_feed.Step("gate", step, _feed.QueryHeads, 1), TensorType.Float32) : null,
            });
            Gather(HostArray<double>.Read(result.Output).Data, decoded, step, one => one.Output, _feed.ValueDim);
            Gather(result.Survivors1.AsSpan<int>(), decoded, step, one => one.Survivors1, 1);
            Gather(result.Survivors2!.AsSpan<int>(), decoded, step, one => one.Survivors2, 1);
        }

        return decoded;
    }

    /// <summary>What breaks the rules in any sequence.</summary>
    public List<string> Violations(DecodedThreshold[] decoded)
    {
        List<string> violations = [];
        for (int s = 0; s < _prefills.Length; s++)
        {
            (ThresholdCase test, ThresholdDifferentialInputs inputs) = _prefills[s];
            using ThresholdDifferentialResult expected = test.Forward(AttentionDevice.Reference, inputs);
            string? violation = KernelTolerance.Violation(
                decoded[s].Output,
                PlainThresholdDifferential.Forward(test, inputs, _type),
                Values.Doubles(expected.Output),
                _type,
                out string report);
            Add(violation is null ? null : $"{violation}: {report}");
            Add(SurvivorTolerance.Violation(
                test, inputs.Query1, inputs.Key1, decoded[s].Survivors1, expected.Survivors1.AsSpan<int>().ToArray()));
            Add(SurvivorTolerance.Violation(
                test, inputs.Query2!, inputs.Key2!, decoded[s].Survivors2, expected.Survivors2!.AsSpan<int>().ToArray()));

            void Add(string? what)
            {
                if (what is not null)
                {
                    violations.Add($"{_feed}, head_dim {_feed.HeadDim}, sequence {s}: {what}");
                }
            }
        }

        return violations;
    }

    private int RowCount => _feed.QueryHeads * _feed.Steps * _feed.Rows;

    private AttentionTensor Typed(AttentionTensor tensor) => SoftmaxProblem.Rounded(tensor, _type);

    private AttentionTensor Prompt(AttentionTensor whole, int sequence) => Typed(whole.Slice(2, 0, _feed.Prompts[sequence]));

    private AttentionTensor Step(string name, int step, int channels) => Typed(_feed.Step(name, step, _feed.KeyHeads, channels));

    private ThresholdCase Case(int sequence, ThresholdDifferentialOptions options) => new($"sequence {sequence}")
    {
        QueryHeads = _feed.QueryHeads,
        KeyHeads = _feed.KeyHeads,
        Queries = _feed.Steps * _feed.Rows,
        Keys = _feed.Length(sequence),
        HeadDim = _feed.HeadDim,
        ValueDim = _feed.ValueDim,
        Options = options with { Kernels = new KernelOptions() },
    };

    private ThresholdDifferentialInputs Inputs(int sequence)
    {
        return new ThresholdDifferentialInputs
        {
            Query1 = Typed(Rows(_feed.Query(sequence))),
            Query2 = Typed(Rows(_feed.Query(sequence, "q2"))),
            Key1 = Typed(_feed.Key(sequence)),
            Key2 = Typed(_feed.Key(sequence, "k2")),
            Value = Typed(_feed.Value(sequence)),
            Gate = _gated ? SoftmaxProblem.Rounded(Rows(_feed.Whole("gate", sequence, _feed.QueryHeads, 1)), TensorType.Float32) : null,
        };

        AttentionTensor Rows(AttentionTensor whole) => whole.Slice(2, _feed.Prompts[sequence], _feed.Steps * _feed.Rows);
    }

    private void Gather<T>(ReadOnlySpan<T> step, DecodedThreshold[] decoded, int number, Func<DecodedThreshold, T[]> part, int channels)
    {
        for (int s = 0; s < decoded.Length; s++)
        {
            for (int h = 0; h < _feed.QueryHeads; h++)
            {
                int from = ((s * _feed.QueryHeads) + h) * _feed.Rows * channels;
                int to = ((h * _feed.Steps) + number) * _feed.Rows * channels;
                step.Slice(from, _feed.Rows * channels).CopyTo(part(decoded[s]).AsSpan(to));
            }
        }
    }
}
