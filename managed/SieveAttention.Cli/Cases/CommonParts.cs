namespace SieveAttention.Cli.Cases;

/// <summary>The metadata and tensors that several operators share.</summary>
internal static class CommonParts
{
    /// <summary>Reads <c>causal</c>, <c>query_offset</c> and <c>window</c>.</summary>
    public static AttentionMask ReadMask(CaseMetadata metadata) => new()
    {
        Causal = metadata.Flag("causal", absent: true),
        QueryOffset = metadata.OptionalInteger("query_offset", -AttentionMask.LargestOffset, AttentionMask.LargestOffset),
        Window = (int?)metadata.OptionalInteger("window", 1, int.MaxValue),
    };

    /// <summary>Reads <c>norm</c>, <c>norm_eps</c> and <c>output_scale</c>.</summary>
    public static OutputEpilogue ReadEpilogue(CaseMetadata metadata)
    {
        OutputNorm norm = metadata.Choice("norm", "none", "none", "rms") == "rms" ? OutputNorm.Rms : OutputNorm.None;
        double? epsilon = metadata.OptionalNumberAtLeast("norm_eps", 0);
        if (norm == OutputNorm.Rms && epsilon is null)
        {
            throw metadata.Missing("norm_eps", $"{CaseNumber.Description}, finite >= 0 (required with norm = rms)");
        }
        if (norm == OutputNorm.None && epsilon is not null)
        {
            throw metadata.Refuse("norm_eps", $"{Text.Quote(metadata.Text("norm_eps")!)} without a norm", "norm_eps with norm = rms only");
        }
        return new OutputEpilogue { Norm = norm, NormEpsilon = epsilon, OutputScale = metadata.Number("output_scale", 1) };
    }

    /// <summary>Reads <c>scale</c>.</summary>
    public static ScoreOptions ReadScale(CaseMetadata metadata) => new() { Scale = metadata.OptionalNumber("scale") };

    /// <summary>Reads <c>scale</c> and <c>row_factor</c> with its keys.</summary>
    public static ScoreOptions ReadScores(CaseMetadata metadata)
    {
        const string Ssmax = "ssmax";
        const string Asentmax = "asentmax";
        string kind = metadata.Choice("row_factor", "none", "none", Ssmax, Asentmax);
        metadata.RefuseWithout("row_s", kind == Ssmax, $"row_factor = {Ssmax}");
        metadata.RefuseWithout("row_beta", kind == Asentmax, $"row_factor = {Asentmax}");
        metadata.RefuseWithout("row_gamma", kind == Asentmax, $"row_factor = {Asentmax}");
        RowFactor factor = kind switch
        {
            Ssmax => RowFactor.Ssmax(metadata.RequiredNumber("row_s", $"row_factor = {Ssmax}")),
            Asentmax => RowFactor.Asentmax(
                metadata.RequiredNumber("row_beta", $"row_factor = {Asentmax}"),
                metadata.RequiredNumber("row_gamma", $"row_factor = {Asentmax}")),
            _ => RowFactor.None,
        };
        return ReadScale(metadata) with { RowFactor = factor };
    }

    /// <summary>Scale and row factor as text; empty where both are the default.</summary>
    public static string Describe(ScoreOptions scores)
    {
        RowFactor factor = scores.RowFactor;
        string scale = scores.Scale is { } number ? $"  scale {Text.Parameter(number)}" : "";
        return scale + factor.Kind switch
        {
            RowFactorKind.Ssmax => $"  row_factor ssmax (s {Text.Parameter(factor.Values[0])})",
            RowFactorKind.Asentmax =>
                $"  row_factor asentmax (beta {Text.Parameter(factor.Values[0])}, gamma {Text.Parameter(factor.Exponents[0])})",
            _ => "",
        };
    }

    /// <summary>Norm and output scale as text; empty where both are the default.</summary>
    public static string Describe(OutputEpilogue epilogue)
    {
        string norm = epilogue.Norm == OutputNorm.Rms ? $"  norm rms (eps {Text.Parameter(epilogue.NormEpsilon!.Value)})" : "";
        return norm + (epilogue.OutputScale == 1 ? "" : $"  output_scale {Text.Parameter(epilogue.OutputScale)}");
    }

    /// <summary>Reads one view of queries and keys with the values, and gives the dimensions of the problem.</summary>
    public static AttentionProblem ReadView(CaseTensors tensors, string query, string key, string value, AttentionMask mask)
    {
        IReadOnlyList<int> q = tensors.Required(query, "B", "Hq", "Tq", "D").Shape;
        IReadOnlyList<int> k = tensors.Required(key, "B", "Hkv", "Tk", "D").Shape;
        tensors.Required(key, [q[0], k[1], k[2], q[3]]);
        IReadOnlyList<int> v = tensors.Required(value, "B", "Hkv", "Tk", "Dv").Shape;
        tensors.Required(value, [q[0], k[1], k[2], v[3]]);
        if (q[1] % k[1] != 0)
        {
            throw tensors.Refuse(query, $"{q[1]} heads", $"a multiple of the {k[1]} heads of tensor '{key}'");
        }
        return new AttentionProblem(
            q[0], q[1], k[1], q[2], k[2], q[3], v[3], mask.Causal, mask.QueryOffset ?? ((long)k[2] - q[2]), mask.Window ?? 0);
    }

    /// <summary>Reads <c>norm_gain</c>, which is allowed with a norm only.</summary>
    public static StoredTensor? ReadNormGain(CaseTensors tensors, OutputEpilogue epilogue, int valueDim)
    {
        StoredTensor? gain = tensors.Optional("norm_gain", [valueDim]);
        return gain is null || epilogue.Norm == OutputNorm.Rms
            ? gain
            : throw tensors.Refuse("norm_gain", "a gain without a norm", "norm_gain with metadata norm = rms only");
    }

    /// <summary>Reads the tensors of an operator with two views; those of the first have been checked.</summary>
    public static CaseInputs ReadTwoViews(string file, CaseTensors tensors, AttentionProblem problem, OutputEpilogue epilogue)
    {
        int[] queryShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.HeadDim];
        int[] keyShape = [problem.Batch, problem.KeyHeads, problem.Keys, problem.HeadDim];
        int[] outputShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.ValueDim];
        CaseInputs inputs = new(file);
        inputs.AddOperand(tensors.Required("q1", queryShape));
        inputs.AddOperand(tensors.Required("k1", keyShape));
        inputs.AddOperand(tensors.Required("q2", queryShape));
        inputs.AddOperand(tensors.Required("k2", keyShape));
        inputs.AddOperand(tensors.Required("v", [problem.Batch, problem.KeyHeads, problem.Keys, problem.ValueDim]));
        inputs.AddOther(ReadNormGain(tensors, epilogue, problem.ValueDim));
        inputs.AddOther(tensors.Optional("gate", outputShape[..3]));
        inputs.AddGradient(tensors.Optional("dout", outputShape));
        return inputs;
    }
}
