using System.Globalization;

namespace SieveAttention.Cli.CommandLine;

/// <summary>
/// The arguments of one command, taken apart: operands in order and options by name. <c>--name value</c> and
/// <c>--name=value</c> mean the same; after <c>--</c> everything is an operand.
/// </summary>
internal sealed class Arguments
{
    private readonly Dictionary<string, string> _options = new(StringComparer.Ordinal);

    private Arguments(List<string> operands)
    {
        Operands = operands;
    }

    /// <summary>Arguments that are not options, in their order.</summary>
    public IReadOnlyList<string> Operands { get; }

    /// <summary>Takes arguments apart.</summary>
    /// <exception cref="UsageException">An option is unknown, repeated, lacks its value or has one that it does not take.</exception>
    public static Arguments Parse(string command, IReadOnlyList<string> arguments, IReadOnlyList<Option> known)
    {
        List<string> operands = [];
        Arguments result = new(operands);
        for (int i = 0; i < arguments.Count; i++)
        {
            string argument = arguments[i];
            if (argument == "--")
            {
                operands.AddRange(arguments.Skip(i + 1));
                break;
            }
            if (argument.Length < 2 || argument[0] != '-')
            {
                operands.Add(argument);
                continue;
            }
            int equals = argument.IndexOf('=', StringComparison.Ordinal);
            string name = argument == "-h" ? Option.HelpSwitch.Name : equals < 0 ? argument : argument[..equals];
            Option option = known.FirstOrDefault(candidate => candidate.Name == name)
                ?? throw new UsageException($"unknown option {Text.Quote(name)}; 'sieve {command}' has "
                    + string.Join(", ", known.Select(candidate => candidate.Name)));
            string value = "";
            if (option.Value is null)
            {
                if (equals >= 0)
                {
                    throw new UsageException($"{name} takes no value, found {Text.Quote(argument[(equals + 1)..])}");
                }
            }
            else if (equals >= 0)
            {
                value = argument[(equals + 1)..];
            }
            else if (i + 1 < arguments.Count && !arguments[i + 1].StartsWith("--", StringComparison.Ordinal))
            {
                value = arguments[++i];
            }
            else
            {
                throw new UsageException($"{name} needs a value: {option.Signature}");
            }
            if (!result._options.TryAdd(name, value))
            {
                throw new UsageException($"{name} is given twice; allowed: once");
            }
        }
        return result;
    }

    /// <summary>Whether the option was given.</summary>
    public bool Has(string name) => _options.ContainsKey(name);

    /// <summary>The value of the option, or null where it was not given.</summary>
    public string? Value(string name) => _options.GetValueOrDefault(name);

    /// <summary>The only operand.</summary>
    /// <exception cref="UsageException">There is none or more than one.</exception>
    public string SingleOperand(string what) => Operands.Count switch
    {
        1 => Operands[0],
        0 => throw new UsageException($"{what} is missing"),
        _ => throw new UsageException($"one {what} is allowed, found {Operands.Count}; the second is {Text.Quote(Operands[1])}"),
    };

    /// <summary>A whole number within limits, or the given default.</summary>
    /// <exception cref="UsageException">The value is no whole number or outside the limits.</exception>
    public int Integer(string name, int absent, int least, int most)
    {
        if (Value(name) is not string text)
        {
            return absent;
        }
        bool parsed = int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value);
        return parsed && value >= least && value <= most
            ? value
            : throw new UsageException($"{name}: found {Text.Quote(text)}; allowed: an integer from {least} to {most}");
    }
}
