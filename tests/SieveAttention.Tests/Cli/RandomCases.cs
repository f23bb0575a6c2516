using System.Globalization;

namespace SieveAttention.Tests.Cli;

/// <summary>
/// Valid cases with random keys, tensors, sizes and types: every key of the case format that an operator has is there in some of them and
/// absent in others. The same seed gives the same case.
/// </summary>
internal sealed class RandomCases
{
    private static readonly TensorType[] s_types = [TensorType.Float32, TensorType.Float64, TensorType.Float16, TensorType.BFloat16];

    private readonly Random _random;
    private readonly CaseSketch _sketch;
    private readonly string _name;
    private int _batch;
    private int _queries;
    private int _keys;
    private int _headDim;
    private int _valueDim;
    private int _queryHeads;
    private int _keyHeads;
    private int _outputHeads;

    private RandomCases(string name, int seed)
    {
        _name = name;
        _random = new Random((seed * 7919) + name.Sum(letter => letter));
        _sketch = CaseSketch.Of(name);
    }

    /// <summary>Names of the operators.</summary>
    public static string[] Operators { get; } = ["softmax", "tda", "diff", "diff_v2", "ssa", "entmax", "support_basis"];

    /// <summary>A valid case of an operator, with what its gradients need.</summary>
    public static CaseSketch Make(string name, int seed) => new RandomCases(name, seed).Make();

    private CaseSketch Make()
    {
        ChooseShape();
        string[] views = _name is "tda" or "diff" ? ["1", "2"] : [""];
        foreach (string view in views)
        {
            Operand($"q{view}", _batch, _queryHeads, _queries, _headDim);
            Operand($"k{view}", _batch, _keyHeads, _keys, _headDim);
        }

        Operand("v", _batch, _keyHeads, _keys, _valueDim);
        ChooseMask();
        if (_name != "tda" && Maybe())
        {
            Set("scale", _name == "support_basis" ? Pick(0.3, 1, 2) : Pick(-0.7, 0.2, 3, 8));
        }

        switch (_name)
        {
            case "softmax":
                ChooseRowFactor();
                break;
            case "entmax":
                ChooseRowFactor();
                ChooseAlpha();
                break;
            case "tda":
                ChooseThreshold();
                ChooseNorm();
                break;
            case "diff":
                ChooseLambda();
                ChooseNorm();
                break;
            case "diff_v2":
                Other("lambda_logit", _batch, _outputHeads, _queries);
                break;
            case "ssa":
                ChooseBlocks();
                break;
            case "support_basis":
                double bound = Pick(0, 0.2, 0.5, 1, 50);
                Set("bound", bound);
                if (Maybe())
                {
                    // 1 + s is not positive for all scores within a bound above 1.
                    Set("degree", bound <= 1 ? Pick(1, 2) : 2);
                }

                Set("tile", Pick(1, 3, 16, 64, 500));
                break;
        }

        if (Maybe())
        {
            Other("gate", _batch, _outputHeads, _queries);
        }

        if (_name != "ssa" || _sketch.Metadata.GetValueOrDefault("stream") != "both")
        {
            Other("dout", _batch, _outputHeads, _queries, _valueDim);
        }

        return _sketch;
    }

    private void ChooseShape()
    {
        _batch = Pick(1, 1, 2);
        _keyHeads = Pick(1, 2, 3);
        _queryHeads = _keyHeads * Pick(1, 2, 4);
        _outputHeads = _queryHeads;
        (_queries, _keys) = Pick((1, 1), (1, 70), (70, 1), (17, 17), (64, 64), (65, 63), (5, 130), (90, 33));
        _headDim = Pick(1, 2, 5, 16, 33, 64);
        _valueDim = Pick(1, 3, 16, 40, 64);
        if (_name == "ssa")
        {
            _keys = Math.Max(_keys, _queries);
        }

        if (_name == "diff_v2")
        {
            int signals = Pick(1, 1, 2, 3);
            int groups = Pick(1, 2);
            _queryHeads = groups * (signals + 1);
            _outputHeads = groups * signals;
            _keyHeads = Enumerable.Range(1, _queryHeads).Where(heads => _queryHeads % heads == 0).OrderBy(_ => _random.Next()).First();
            if (signals > 1 || Maybe())
            {
                Set("signals", signals);
            }
        }
    }

    private void ChooseMask()
    {
        if (_name == "ssa")
        {
            if (Maybe())
            {
                Set("query_offset", _random.Next(_keys - _queries + 1));
            }

            return;
        }

        if (Maybe())
        {
            _sketch.Set("causal", Maybe() ? "true" : "false");
        }

        if (Maybe())
        {
            Set("query_offset", _random.Next(-_queries, _keys + 5));
        }

        if (Maybe())
        {
            Set("window", Pick(1, 2, 7, 64, 1000));
        }
    }

    private void ChooseRowFactor()
    {
        switch (_random.Next(4))
        {
            case 0:
                _sketch.Set("row_factor", "none");
                break;
            case 1:
                _sketch.Set("row_factor", "ssmax");
                Set("row_s", Pick(-0.3, 0, 0.4, 1));
                break;
            case 2:
                _sketch.Set("row_factor", "asentmax");
                Set("row_beta", Pick(0, 0.5, 1.2));
                Set("row_gamma", Pick(-1.5, 0, 0.8, 2));
                break;
        }
    }

    private void ChooseAlpha()
    {
        double[] alphas = [1.01, 1.05, 1.25, 1.5, 1.75, 1.99, 2];
        if (Maybe())
        {
            Other("alpha", _queryHeads);
            TensorType type = _sketch.Tensors["alpha"].Type;
            for (int h = 0; h < _queryHeads; h++)
            {
                double alpha = Pick(alphas);
                // Narrow types round 1.01 to values that are still above 1 and 1.99 to at most 2.
                object element = type switch
                {
                    TensorType.Float64 => alpha,
                    TensorType.Float16 => (Half)alpha,
                    TensorType.BFloat16 => (BFloat16)(float)alpha,
                    _ => (float)alpha,
                };
                _sketch.Tensors["alpha"].Values.SetValue(element, h);
            }
        }
        else if (Maybe())
        {
            Set("alpha", Pick(alphas));
        }
    }

    private void ChooseThreshold()
    {
        Set("beta", Pick(-0.4, 0, 0.3, 0.7, 5));
        Set("lambda", Pick(-0.5, 0, 0.4, 1.5));
        if (Maybe())
        {
            Set("kappa", Pick(0.3, 1, 4, 1000));
        }

        if (Maybe())
        {
            Set("power", Pick(1, 1.5, 2, 2.7, 3, 4));
        }
    }

    private void ChooseLambda()
    {
        if (!Maybe())
        {
            Set("lambda", Pick(-0.5, 0, 0.8, 1, 3));
            return;
        }

        _sketch.Set("lambda", null);
        Other("lambda_vectors", 4, _headDim);
        Set("lambda_init", Pick(-0.0099, 0.2, 0.8));
    }

    private void ChooseNorm()
    {
        if (Maybe())
        {
            Set("output_scale", Pick(-0.4, 0.2, 1));
        }

        switch (_random.Next(3))
        {
            case 0:
                _sketch.Set("norm", "none");
                break;
            case 1:
                _sketch.Set("norm", "rms");
                Set("norm_eps", Pick(1e-2, 1e-1));
                if (Maybe())
                {
                    Other("norm_gain", _valueDim);
                }

                break;
        }
    }

    private void ChooseBlocks()
    {
        bool released = Maybe();
        int size = released ? Pick(2, 4, 16) : Pick(1, 3, 4, 16, 200);
        Set("block_size", size);
        Set("block_count", released ? _random.Next(1, size + 1) : Pick(1, 2, 5, 16));
        if (released || Maybe())
        {
            _sketch.Set("selection", released ? "released" : "exact");
        }

        string? stream = Pick(null, "sparse", "full", "both");
        _sketch.Set("stream", stream);
        if (Maybe())
        {
            _sketch.Set("alignment", Maybe() ? "gated" : "ungated");
        }

        if (Maybe())
        {
            Set("alignment_weight", Pick(0, 1, 500));
        }

        if (stream == "both")
        {
            int which = _random.Next(3);
            if (which != 0)
            {
                Other("dout_sparse", _batch, _outputHeads, _queries, _valueDim);
            }

            if (which != 1)
            {
                Other("dout_full", _batch, _outputHeads, _queries, _valueDim);
            }
        }
    }

    private bool Maybe() => _random.Next(2) == 0;

    private T Pick<T>(params T[] values) => values[_random.Next(values.Length)];

    private void Set(string key, double value) => _sketch.Set(key, value.ToString("R", CultureInfo.InvariantCulture));

    private void Operand(string name, params int[] shape) => _sketch.Add(name, Pick(s_types), shape);

    private void Other(string name, params int[] shape) => _sketch.Add(name, Pick(s_types), shape);
}
