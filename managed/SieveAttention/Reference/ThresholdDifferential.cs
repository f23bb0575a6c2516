namespace SieveAttention.Reference;

/// <summary>
/// Threshold differential attention in float64, as defined in arXiv 2601.12145; names are those of the formulas in
/// <see cref="ThresholdDifferentialAttention"/>. Plain loops, one thread.
/// </summary>
internal static class ThresholdDifferential
{
    internal static ThresholdDifferentialForward<double> Forward(
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        HostArray<double> q1,
        HostArray<double> k1,
        HostArray<double>? q2,
        HostArray<double>? k2,
        HostArray<double> v,
        double[]? normGain,
        HostArray<double>? gate)
    {
        View view1 = new(problem, q1, k1, gradients: false);
        View? view2 = q2 is null || k2 is null ? null : new View(problem, q2, k2, gradients: false);
        HostArray<double> y = new(problem.OutputShape);
        int rows = problem.Batch * problem.QueryHeads * problem.Queries;
        int[] survivors1 = new int[rows];
        int[]? survivors2 = view2 is null ? null : new int[rows];
        double[] x = new double[problem.ValueDim];
        int row = 0;
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                double lambda = parameters.Lambda[h];
                for (int i = 0; i < problem.Queries; i++, row++)
                {
                    KeyRange visible = problem.Visible(i);
                    double tau = Threshold(parameters.Beta[h], Steepness(visible.Count, parameters.Kappa, problem.HeadDim));
                    survivors1[row] = view1.Score(b, h, i, visible, tau);
                    if (view2 is not null)
                    {
                        survivors2![row] = view2.Score(b, h, i, visible, tau);
                    }

                    Array.Clear(x);
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        double w = Weight(view1.Exceedance[j], lambda, view2?.Exceedance[j] ?? 0, parameters.Power);
                        AddScaled(x, w, v.Row(b, problem.KeyHead(h), j));
                    }

                    Epilogue.Forward(parameters.Epilogue, normGain, gate?.Row(b, h, i)[0], x, y.Row(b, h, i));
                }
            }
        }

        return new ThresholdDifferentialForward<double>(y, survivors1, survivors2);
    }

    internal static ThresholdDifferentialBackward<double> Backward(
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        HostArray<double> q1,
        HostArray<double> k1,
        HostArray<double>? q2,
        HostArray<double>? k2,
        HostArray<double> v,
        double[]? normGain,
        HostArray<double>? gate,
        HostArray<double> dout)
    {
        View view1 = new(problem, q1, k1, gradients: true);
        View? view2 = q2 is null || k2 is null ? null : new View(problem, q2, k2, gradients: true);
        HostArray<double> dv = new(problem.ValueShape);
        double[]? dgain = normGain is null ? null : new double[problem.ValueDim];
        HostArray<double>? dgate = gate is null ? null : new HostArray<double>(problem.RowShape);
        double[] dbeta = new double[problem.QueryHeads];
        double[] dlambda = new double[problem.QueryHeads];
        double dkappa = 0;
        double p = parameters.Power;
        double[] x = new double[problem.ValueDim];
        double[] dx = new double[problem.ValueDim];
        double[] w = new double[problem.Keys];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                int kv = problem.KeyHead(h);
                double beta = parameters.Beta[h];
                double lambda = parameters.Lambda[h];
                for (int i = 0; i < problem.Queries; i++)
                {
                    KeyRange visible = problem.Visible(i);
                    double steepness = Steepness(visible.Count, parameters.Kappa, problem.HeadDim);
                    double tau = Threshold(beta, steepness);
                    view1.Score(b, h, i, visible, tau);
                    view2?.Score(b, h, i, visible, tau);
                    Array.Clear(x);
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        w[j] = Weight(view1.Exceedance[j], lambda, view2?.Exceedance[j] ?? 0, p);
                        AddScaled(x, w[j], v.Row(b, kv, j));
                    }

                    double dlogit = Epilogue.Backward(
                        parameters.Epilogue, normGain, gate?.Row(b, h, i)[0], x, dout.Row(b, h, i), dx, dgain);
                    if (dgate is not null)
                    {
                        dgate.Row(b, h, i)[0] = dlogit;
                    }

                    double dtau = 0;
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        double e1 = view1.Exceedance[j];
                        double e2 = view2 is null ? 0 : view2.Exceedance[j];
                        if (e1 == 0 && e2 == 0)
                        {
                            continue;
                        }

                        double g = UnitVectors.Dot(dx, v.Row(b, kv, j));
                        AddScaled(dv.Row(b, kv, j), w[j], dx);
                        double ds1 = PowerSlope(e1, p) * g;
                        view1.AddScoreGradient(b, h, i, j, ds1);
                        dtau -= ds1;
                        if (view2 is not null)
                        {
                            double ds2 = -lambda * PowerSlope(e2, p) * g;
                            view2.AddScoreGradient(b, h, i, j, ds2);
                            dtau -= ds2;
                            dlambda[h] -= Power(e2, p) * g;
                        }
                    }

                    // tau = beta sqrt(2 ln(n / kappa) / D): dtau/dbeta is the root, dtau/dkappa = -beta / (D kappa root), which for
                    // beta != 0 is -beta^2 / (D kappa tau). Rows with ln <= 0 give nothing.
                    if (steepness > 0)
                    {
                        dbeta[h] += dtau * steepness;
                        dkappa -= dtau * beta / (problem.HeadDim * parameters.Kappa * steepness);
                    }
                }
            }
        }

        (HostArray<double> dq1, HostArray<double> dk1) = view1.Gradients();
        (HostArray<double> Query, HostArray<double> Key)? gradients2 = view2?.Gradients();
        return new ThresholdDifferentialBackward<double>(
            dq1, dk1, gradients2?.Query, gradients2?.Key, dv, dgain, dgate, dbeta, dkappa, dlambda);
    }

    /// <summary>sqrt(2 max(ln(n / kappa), 0) / D): what beta multiplies. 0 for a row without visible keys.</summary>
    internal static double Steepness(int n, double kappa, int headDim) =>
        n == 0 ? 0 : Math.Sqrt(2 * Math.Max(Math.Log(n / kappa), 0) / headDim);

    /// <summary>tau = beta * steepness.</summary>
    internal static double Threshold(double beta, double steepness) => beta * steepness;

    /// <summary>w = a_1 - lambda a_2 of one pair. Lambda 0 is the single-view operator, whatever view 2 holds.</summary>
    private static double Weight(double e1, double lambda, double e2, double p) =>
        lambda == 0 ? Power(e1, p) : Power(e1, p) - (lambda * Power(e2, p));

    /// <summary>e^p for an exceedance e &gt;= 0; 0 stays 0, NaN stays NaN.</summary>
    private static double Power(double e, double p) => e == 0 ? 0 : p switch
    {
        1 => e,
        2 => e * e,
        3 => e * e * e,
        _ => Math.Pow(e, p),
    };

    /// <summary>Derivative p e^(p-1) for e &gt; 0, else 0: strictly above the threshold only.</summary>
    private static double PowerSlope(double e, double p) => e == 0 ? 0 : p switch
    {
        1 => 1,
        2 => 2 * e,
        3 => 3 * e * e,
        _ => p * Math.Pow(e, p - 1),
    };

    /// <summary>target += factor * source. Weight 0 contributes nothing, whatever the source holds.</summary>
    private static void AddScaled(Span<double> target, double factor, ReadOnlySpan<double> source)
    {
        if (factor == 0)
        {
            return;
        }

        for (int c = 0; c < target.Length; c++)
        {
            target[c] += factor * source[c];
        }
    }

    /// <summary>One pair of queries and keys: scores of a row at a time, and the gradients that they receive.</summary>
    private sealed class View
    {
        private readonly AttentionProblem _problem;
        private readonly UnitVectors _q;
        private readonly UnitVectors _k;
        private readonly HostArray<double> _dq;
        private readonly HostArray<double> _dk;

        internal View(in AttentionProblem problem, HostArray<double> q, HostArray<double> k, bool gradients)
        {
            _problem = problem;
            _q = new UnitVectors(q);
            _k = new UnitVectors(k);
            _dq = new HostArray<double>(gradients ? problem.QueryShape : default);
            _dk = new HostArray<double>(gradients ? problem.KeyShape : default);
            Exceedance = new double[problem.Keys];
        }

        /// <summary>(s - tau)_+ of the visible keys of the row scored last.</summary>
        internal double[] Exceedance { get; }

        /// <summary>Fills <see cref="Exceedance"/> for the visible keys of a row and counts the survivors.</summary>
        internal int Score(int b, int h, int i, KeyRange visible, double tau)
        {
            ReadOnlySpan<double> qn = _q.Row(b, h, i);
            int survivors = 0;
            for (int j = visible.First; j < visible.End; j++)
            {
                double s = UnitVectors.Dot(qn, _k.Row(b, _problem.KeyHead(h), j));
                survivors += s > tau ? 1 : 0;
                // Written so that NaN stays NaN instead of turning into a masked key.
                Exceedance[j] = s <= tau ? 0 : s - tau;
            }

            return survivors;
        }

        /// <summary>dqn_i += ds kn_j and dkn_j += ds qn_i.</summary>
        internal void AddScoreGradient(int b, int h, int i, int j, double ds)
        {
            int kv = _problem.KeyHead(h);
            AddScaled(_dq.Row(b, h, i), ds, _k.Row(b, kv, j));
            AddScaled(_dk.Row(b, kv, j), ds, _q.Row(b, h, i));
        }

        /// <summary>The gradients of the queries and keys themselves; once, at the end.</summary>
        internal (HostArray<double> Query, HostArray<double> Key) Gradients()
        {
            _q.Backward(_dq);
            _k.Backward(_dk);
            return (_dq, _dk);
        }
    }
}
