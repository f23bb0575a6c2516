using System.Globalization;

namespace SieveAttention;

/// <summary>Checks of parameters. Every message says the name, the value received and what is allowed, in one line.</summary>
internal static class Guard
{
    internal static void Finite(double value, string name)
    {
        if (!double.IsFinite(value))
        {
            throw OutOfRange(name, value, "a finite number");
        }
    }

    internal static void Positive(double value, string name)
    {
        if (!double.IsFinite(value) || value <= 0)
        {
            throw OutOfRange(name, value, "a finite number greater than 0");
        }
    }

    internal static void AtLeast(double least, double value, string name)
    {
        if (!double.IsFinite(value) || value < least)
        {
            throw OutOfRange(name, value, $"a finite number of at least {least.ToString(CultureInfo.InvariantCulture)}");
        }
    }

    internal static void Between(long least, long most, long value, string name)
    {
        if (value < least || value > most)
        {
            throw OutOfRange(name, value, $"{least} to {most}");
        }
    }

    internal static void Defined<T>(T value, string name)
        where T : struct, Enum
    {
        if (!Enum.IsDefined(value))
        {
            throw OutOfRange(name, value, string.Join(", ", Enum.GetNames<T>()));
        }
    }

    /// <summary>An error about a tensor: the message names it, what it is and what it has to be.</summary>
    internal static ArgumentException Tensor(string name, string message) => new(message, name);

    /// <summary>An error about a list of parameters: the message names it, what it is and what it has to be.</summary>
    internal static ArgumentException Values(string name, string message) => new(message, name);

    internal static ArgumentOutOfRangeException OutOfRange<T>(string name, T value, string allowed) =>
        new(name, string.Create(CultureInfo.InvariantCulture, $"{name} is {value}; allowed: {allowed}."));
}
