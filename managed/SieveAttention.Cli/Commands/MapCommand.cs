using System.Globalization;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.CommandLine;
using SieveAttention.Cli.Output;
using SieveAttention.Cli.Pictures;

namespace SieveAttention.Cli.Commands;

/// <summary><c>sieve map</c>: draws the attention weights of a head.</summary>
internal sealed class MapCommand : Command
{
    private const string HeadOption = "--head";
    private const string BatchOption = "--batch";
    private const string WidthOption = "--width";

    /// <inheritdoc/>
    public override string Name => "map";

    /// <inheritdoc/>
    public override string Summary => "Draws the attention weights of one head as a PNG, computed in float64.";

    /// <inheritdoc/>
    public override string Operands => "CASE";

    /// <inheritdoc/>
    public override IReadOnlyList<Option> Options { get; } =
    [
        new(HeadOption, "H", "Query head, from 0. Default: 0."),
        new(BatchOption, "B", "Entry of the batch, from 0. Default: 0."),
        new(OutputPath.OptionName, "FILE.png", "Where to write. Default: the name of the case and head, in the current directory."),
        new(
            WidthOption,
            "PIXELS",
            $"Most pixels across, {WeightPicture.LeastWidth} to {WeightPicture.MostWidth}. Default: {WeightPicture.UsualWidth}."),
        CommandContext.ProgressSwitch,
    ];

    /// <inheritdoc/>
    public override string Notes =>
        "Queries run down, keys across. White is a weight of exactly 0, warm colours are positive, blue ones negative\n"
        + "weights; hatched keys are not visible to the query. Where a cell stands for several pairs it shows the weight of\n"
        + "largest magnitude. The bars at the right count the keys above the threshold or with a weight,\n"
        + "row by row.";

    /// <inheritdoc/>
    protected override ExitCode Run(Arguments arguments, CommandContext context)
    {
        string path = arguments.SingleOperand("CASE");
        int width = arguments.Integer(WidthOption, WeightPicture.UsualWidth, WeightPicture.LeastWidth, WeightPicture.MostWidth);
        AttentionCase attentionCase = CaseFile.Read(path);
        if (attentionCase.WeightsAbsence is { } absence)
        {
            throw new UsageException($"{path}: {absence}");
        }
        AttentionWeights weights = attentionCase.Weights;
        int head = arguments.Integer(HeadOption, 0, 0, weights.Heads - 1);
        int batch = arguments.Integer(BatchOption, 0, 0, weights.Batch - 1);
        string target = OutputPath.Check(
            arguments.Value(OutputPath.OptionName) ?? $"{attentionCase.Name}-batch{batch}-head{head}.png", path);

        HeadWeights source = new(weights, batch, head);
        WeightMap map;
        AttentionStatistics statistics;
        using (Progress progress = context.StartProgress(arguments, 1))
        {
            progress.Step($"{attentionCase.Name}: weights of head {head}");
            statistics = AttentionStatistics.Of(weights, batch, head);
            map = WeightMap.Compute(source, WeightPicture.MostCells(width, source.CountNames.Count), progress.Report);
        }
        string[] counts = source.CountNames.Count > 0 ? [Counts(source, map)] : [];
        string title = $"{attentionCase.Operator}  {attentionCase.Name}  head {head} of {weights.Heads}"
            + (attentionCase.Problem.Batch > 1 ? $"  batch entry {batch} of {attentionCase.Problem.Batch}" : "");
        string zeros = $"weights exactly 0: {Percent(map.ZeroFraction)} of visible pairs, whole rows: {Percent(map.EmptyRowFraction)}";
        string cells = map.RowsPerCell == 1 && map.ColumnsPerCell == 1
            ? "a cell is one pair of query and key"
            : $"a cell shows the weight of largest magnitude of {map.RowsPerCell} x {map.ColumnsPerCell} pairs"
                + (source.CountNames.Count > 0 ? $", a bar the most keys of {map.RowsPerCell} rows" : "");
        Canvas canvas = WeightPicture.Draw(
            source, map, width, [title, $"{attentionCase.Parameters}  {attentionCase.Dimensions}", zeros, .. counts, cells]);
        AtomicFile.Write(target, stream => PngFile.Write(stream, canvas, title));

        context.Out.WriteLine(title);
        context.Out.WriteLine($"{attentionCase.Parameters}  {attentionCase.Dimensions}");
        context.Out.WriteLine(zeros);
        foreach (string line in counts.Concat(StatisticsText.Lines(statistics)))
        {
            context.Out.WriteLine(line);
        }
        context.Out.WriteLine($"weights from {Text.Number(map.Smallest)} to {Text.Number(map.Largest)}");
        context.Out.WriteLine($"written to {target} ({canvas.Width} x {canvas.Height} pixels)");
        return ExitCode.Ok;
    }

    private static string Counts(HeadWeights source, WeightMap map)
    {
        IEnumerable<string> parts = source.CountNames.Select(
            (name, index) => $"{name} mean {Text.Number(map.MeanCounts[index])}, largest {map.MostCounts[index].Max()}");
        return $"survivors per row: {string.Join("; ", parts)}";
    }

    private static string Percent(double part) => $"{(100 * part).ToString("0.###", CultureInfo.InvariantCulture)} %";
}
