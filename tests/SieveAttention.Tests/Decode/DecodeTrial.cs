using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// The steps of a feed in a 16-bit type, decoded by any device and judged as kernels are: against the rows of a prefill in float64, at most
/// twice the error of plain arithmetic. Decoding once more starts from an empty cache.
/// </summary>
internal sealed class DecodeTrial
{
    private readonly DecodeFeed _feed;
    private readonly TensorType _type;
    private readonly SoftmaxProblem[] _problems;

    /// <param name="feed">Sequences and steps.</param>
    /// <param name="type">Of queries, keys and values.</param>
    /// <param name="options">Of the operator; its kernels do not matter here.</param>
    /// <param name="gated">Whether rows have a gate.</param>
    public DecodeTrial(DecodeFeed feed, TensorType type, SoftmaxOptions options, bool gated = false)
    {
        _feed = feed;
        _type = type;
        SoftmaxOptions prefill = options with { Kernels = new KernelOptions() };
        _problems = [.. Enumerable.Range(0, feed.Prompts.Length).Select(s => new SoftmaxProblem(Inputs(s, gated), prefill, null))];
    }

    /// <summary>Appends a prompt, [1, heads, rows, channels], to a sequence.</summary>
    public delegate void AppendPrompt(int sequence, AttentionTensor key, AttentionTensor value);

    /// <summary>Appends the rows of a step, [sequences, heads, rows, channels].</summary>
    public delegate void AppendStep(AttentionTensor key, AttentionTensor value);

    /// <summary>Decodes a step whose keys have been appended; tensors of inputs and result lie in host memory.</summary>
    public delegate SoftmaxResult DecodeStep(DecodeInputs inputs);

    /// <summary>Of each sequence: output and logarithms of the rows of all steps, in the layout of a prefill of these rows.</summary>
    public (double[] Output, double[] LogSumExp)[] Run(AppendPrompt appendPrompt, AppendStep appendStep, DecodeStep decode)
    {
        for (int s = 0; s < _feed.Prompts.Length; s++)
        {
            if (_feed.Prompts[s] > 0)
            {
                appendPrompt(s, Typed(_feed.Key(s).Slice(2, 0, _feed.Prompts[s])), Typed(_feed.Value(s).Slice(2, 0, _feed.Prompts[s])));
            }
        }

        HostArray<double>[] outputs = [.. _problems.Select(_ => Rows(_feed.ValueDim))];
        HostArray<double>[] lse = [.. _problems.Select(_ => Rows(1))];
        for (int step = 0; step < _feed.Steps; step++)
        {
            appendStep(
                Typed(_feed.Step("k", step, _feed.KeyHeads, _feed.HeadDim)), Typed(_feed.Step("v", step, _feed.KeyHeads, _feed.ValueDim)));
            using SoftmaxResult result = decode(new DecodeInputs { Query = Typed(_feed.StepQuery(step)), Gate = Gate(step) });
            Gather(result.Output, outputs, step);
            Gather(result.LogSumExp, lse, step);
        }

        return [.. outputs.Zip(lse, (output, rows) => (output.Data, rows.Data))];
    }

    public void AssertWithin((double[] Output, double[] LogSumExp)[] decoded)
    {
        for (int s = 0; s < _problems.Length; s++)
        {
            _problems[s].AssertForward(decoded[s].Output, decoded[s].LogSumExp, $"{_feed}, head_dim {_feed.HeadDim}, sequence {s}");
        }
    }

    /// <summary>What breaks the rule in any sequence.</summary>
    public List<string> Violations((double[] Output, double[] LogSumExp)[] decoded) =>
        [.. _problems.SelectMany((problem, s) => problem.ForwardViolations(decoded[s].Output, decoded[s].LogSumExp, $"sequence {s}"))];

    private AttentionTensor Typed(AttentionTensor tensor) => SoftmaxProblem.Rounded(tensor, _type);

    private AttentionInputs Inputs(int sequence, bool gated)
    {
        int rows = _feed.Steps * _feed.Rows;
        return new AttentionInputs
        {
            Query = Typed(_feed.Query(sequence).Slice(2, _feed.Prompts[sequence], rows)),
            Key = Typed(_feed.Key(sequence)),
            Value = Typed(_feed.Value(sequence)),
            Gate = gated ? SoftmaxProblem.Rounded(GateRows(sequence), TensorType.Float32) : null,
        };
    }

    private AttentionTensor GateRows(int sequence) =>
        _feed.Whole("gate", sequence, _feed.QueryHeads, 1).Slice(2, _feed.Prompts[sequence], _feed.Steps * _feed.Rows);

    private AttentionTensor? Gate(int step) => _problems[0].Inputs.Gate is null
        ? null
        : SoftmaxProblem.Rounded(_feed.Step("gate", step, _feed.QueryHeads, 1), TensorType.Float32);

    private HostArray<double> Rows(int channels) => new(new TensorShape(1, _feed.QueryHeads, _feed.Steps * _feed.Rows, channels));

    private void Gather(AttentionTensor decoded, HostArray<double>[] sequences, int step)
    {
        HostArray<double> rows = HostArray<double>.Read(decoded);
        for (int s = 0; s < sequences.Length; s++)
        {
            for (int h = 0; h < _feed.QueryHeads; h++)
            {
                for (int i = 0; i < _feed.Rows; i++)
                {
                    rows.Row(s, h, i).CopyTo(sequences[s].Row(0, h, (step * _feed.Rows) + i));
                }
            }
        }
    }
}
