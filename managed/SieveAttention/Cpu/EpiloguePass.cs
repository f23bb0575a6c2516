namespace SieveAttention.Cpu;

/// <summary>
/// The epilogue of all rows of an output, and its gradient, for operators that combine outputs before it. The gate has one logit for
/// each row of the output. One thread: its cost is that of reading the output.
/// </summary>
internal static class EpiloguePass
{
    /// <summary>Returns y; the same array as x where there is nothing to do.</summary>
    internal static HostArray<float> Forward(
        EpilogueParameters parameters, float[]? normGain, HostArray<float>? gate, HostArray<float> x)
    {
        if (parameters.IsIdentity && gate is null)
        {
            return x;
        }

        Epilogue epilogue = new(parameters, normGain, gate);
        HostArray<float> y = new(x.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    epilogue.Forward(x.Row(b, h, i), b, h, i, y.Row(b, h, i));
                }
            }
        }

        return y;
    }

    /// <summary>Gradients from x, the output before the epilogue, and dy, the gradient of the output after it.</summary>
    internal static EpilogueGradients<float> Backward(
        EpilogueParameters parameters, float[]? normGain, HostArray<float>? gate, HostArray<float> x, HostArray<float> dy)
    {
        if (parameters.IsIdentity && gate is null)
        {
            return new EpilogueGradients<float>(dy, null, null);
        }

        Epilogue epilogue = new(parameters, normGain, gate);
        HostArray<float> dx = new(x.Shape);
        double[] dgain = new double[normGain?.Length ?? 0];
        HostArray<float>? dgate = gate is null ? null : new HostArray<float>(gate.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    double dlogit = epilogue.Backward(x.Row(b, h, i), dy.Row(b, h, i), b, h, i, dx.Row(b, h, i), dgain);
                    if (dgate is not null)
                    {
                        dgate.Row(b, h, i)[0] = (float)dlogit;
                    }
                }
            }
        }

        return new EpilogueGradients<float>(dx, normGain is null ? null : Array.ConvertAll(dgain, value => (float)value), dgate);
    }
}
