using SieveAttention.Cli.Cases;
using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Cli.Commands;

/// <summary>The option <c>--dtype</c>: a 16-bit type to which queries, keys, values and the upstream gradient are rounded. Nothing else rounds them.</summary>
internal static class OperandType
{
    /// <summary>Its name.</summary>
    public const string OptionName = "--dtype";

    /// <summary>The values it takes.</summary>
    public const string Values = "bf16|fp16";

    /// <summary>Reads the option; null where it was not given.</summary>
    /// <exception cref="UsageException">The value is another.</exception>
    public static TensorType? Read(Arguments arguments) => arguments.Value(OptionName) switch
    {
        null => null,
        "bf16" => TensorType.BFloat16,
        "fp16" => TensorType.Float16,
        string other => throw new UsageException($"{OptionName}: found {Text.Quote(other)}; allowed: bf16, fp16"),
    };

    /// <summary>The case in the type that the command line asks for.</summary>
    /// <exception cref="UsageException">A GPU is to run operands that it does not take, and no type was chosen.</exception>
    public static AttentionCase Apply(AttentionCase attentionCase, TensorType? type, AttentionDevice device)
    {
        if (type is { } chosen)
        {
            return attentionCase.Rounded(chosen);
        }
        bool fits = device.Kind != AttentionDeviceKind.Cuda
            || attentionCase.Inputs.OperandType() is TensorType.Float16 or TensorType.BFloat16;
        return fits
            ? attentionCase
            : throw new UsageException(
                $"{OptionName}: found none, and {attentionCase.File} holds {attentionCase.Inputs.OperandTypeNames()}; "
                + $"allowed on {device.Name}: F16 or BF16 operands, or {OptionName} {Values} to round them");
    }
}
