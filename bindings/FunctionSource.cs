using CppSharp.AST;
using CppSharp.Generators;

namespace SieveAttention.Bindings;

/// <summary>
/// Imports. Signatures are blittable, so a plain DllImport needs no marshalling stub and stays valid under native compilation.
/// </summary>
internal sealed class FunctionSource(BindingContext context, TranslationUnit unit, IReadOnlyCollection<string> quick)
    : InteropSource(context, unit)
{
    internal const string LibraryName = "sieve_attention";

    internal override string FileName => "SieveNative";

    protected override void WriteDeclarations()
    {
        if (quick.FirstOrDefault(name => TranslationUnit.Functions.All(f => f.OriginalName != name)) is { } missing)
        {
            throw new NotSupportedException($"{missing} is called without a transition, but the header does not declare it.");
        }

        NewLine();
        WriteLine($"/// <summary>Every function of {SieveLibrary.Header}, as it is in C.</summary>");
        WriteLine("internal static unsafe class SieveNative");
        WriteOpenBraceAndIndent();
        WriteLine("/// <summary>Logical name of the library; the resolver maps it to a file.</summary>");
        WriteLine($"internal const string LibraryName = \"{LibraryName}\";");
        foreach (Function function in TranslationUnit.Functions)
        {
            NewLine();
            WriteComment(function);
            if (quick.Contains(function.OriginalName))
            {
                WriteLine("[SuppressGCTransition]");
            }

            WriteLine($"[DllImport(LibraryName, EntryPoint = \"{function.OriginalName}\", " +
                "CallingConvention = CallingConvention.Cdecl, ExactSpelling = true)]");
            string name = Names.Pascal(function.OriginalName, skippedWords: 1);
            IEnumerable<string> arguments = function.Parameters.Select(parameter => Printer.Argument(function, parameter));
            WriteLine($"internal static extern {Printer.Signature(function.ReturnType)} {name}({string.Join(", ", arguments)});");
        }

        UnindentAndWriteCloseBrace();
    }
}
