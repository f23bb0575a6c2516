namespace SieveAttention;

/// <summary>Support-basis attention on the devices that compute in host memory. Arguments have been checked.</summary>
internal static class HostSupportBasis
{
    internal static void Forward(
        AttentionDevice device, in AttentionProblem problem, SupportBasisOptions options, AttentionInputs inputs, SupportBasisResult into)
    {
        Reference.SupportBasisTiles tiles = Tiles(problem, options, inputs);
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            CpuCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Cpu.Rows.SupportBasisRow row = new(problem, tiles, options.Tile, options.Degree);
            call.Write(Cpu.RowAttention.Forward(problem, call.Terms, row, call.Query, call.Key, call.Value), into.Output);
        }
        else
        {
            ReferenceCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Reference.SupportBasisRow row = new(tiles, options.Degree);
            call.Write(Reference.RowAttention.Forward(problem, call.Terms, row, call.Query, call.Key, call.Value), into.Output);
        }

        into.ExactFraction = tiles.ExactFraction;
    }

    internal static AttentionGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        SupportBasisOptions options,
        AttentionInputs inputs,
        AttentionTensor outputGradient)
    {
        Reference.SupportBasisTiles tiles = Tiles(problem, options, inputs);
        return new AttentionGradients(
            device.Kind == AttentionDeviceKind.Cpu
                ? new CpuCall(problem, inputs, options.Scores, options.Epilogue).Differentiate(
                    new Cpu.Rows.SupportBasisRow(problem, tiles, options.Tile, options.Degree), outputGradient)
                : new ReferenceCall(problem, inputs, options.Scores, options.Epilogue).Differentiate(
                    new Reference.SupportBasisRow(tiles, options.Degree), outputGradient));
    }

    /// <summary>In float64 on every device: a tile on the other side of its bound changes the result by far more than rounding.</summary>
    private static Reference.SupportBasisTiles Tiles(
        in AttentionProblem problem, SupportBasisOptions options, AttentionInputs inputs) => new(
        problem,
        options.Scores.ToTerms<double>(problem, inputs.RowFactors),
        HostArray<double>.Read(inputs.Query),
        HostArray<double>.Read(inputs.Key),
        options.Bound,
        options.Tile);
}
