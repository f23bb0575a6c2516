namespace SieveAttention.Reference;

/// <summary>The epilogue of all rows of an output, and its gradient. The gate has one logit for each row of the output.</summary>
internal static class EpiloguePass
{
    /// <summary>Returns y; the same array as x where there is nothing to do.</summary>
    internal static HostArray<double> Forward(
        EpilogueParameters parameters, double[]? normGain, HostArray<double>? gate, HostArray<double> x)
    {
        if (parameters.IsIdentity && gate is null)
        {
            return x;
        }

        HostArray<double> y = new(x.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    Epilogue.Forward(parameters, normGain, gate?.Row(b, h, i)[0], x.Row(b, h, i), y.Row(b, h, i));
                }
            }
        }

        return y;
    }

    /// <summary>Gradients from x, the output before the epilogue, and dy, the gradient of the output after it.</summary>
    internal static EpilogueGradients<double> Backward(
        EpilogueParameters parameters, double[]? normGain, HostArray<double>? gate, HostArray<double> x, HostArray<double> dy)
    {
        if (parameters.IsIdentity && gate is null)
        {
            return new EpilogueGradients<double>(dy, null, null);
        }

        HostArray<double> dx = new(x.Shape);
        double[]? dgain = normGain is null ? null : new double[normGain.Length];
        HostArray<double>? dgate = gate is null ? null : new HostArray<double>(gate.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    double dlogit = Epilogue.Backward(
                        parameters, normGain, gate?.Row(b, h, i)[0], x.Row(b, h, i), dy.Row(b, h, i), dx.Row(b, h, i), dgain);
                    if (dgate is not null)
                    {
                        dgate.Row(b, h, i)[0] = dlogit;
                    }
                }
            }
        }

        return new EpilogueGradients<double>(dx, dgain, dgate);
    }
}
