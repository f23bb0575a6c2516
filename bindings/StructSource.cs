using CppSharp.AST;
using CppSharp.Generators;

namespace SieveAttention.Bindings;

/// <summary>
/// Structures, laid out explicitly with the offsets and the size that clang computed, so that no packing rule of .NET takes
/// part. Opaque handles have no layout and are left out: they are <c>nint</c> in the signatures.
/// </summary>
internal sealed class StructSource(BindingContext context, TranslationUnit unit) : InteropSource(context, unit)
{
    internal override string FileName => "SieveStructs";

    protected override void WriteDeclarations()
    {
        foreach (Class @class in TranslationUnit.Classes.Where(c => !c.IsIncomplete))
        {
            if (@class.IsUnion || @class.Fields.Any(field => field.IsBitField))
            {
                throw new NotSupportedException($"{@class.OriginalName}: the header has neither unions nor bit-fields.");
            }

            NewLine();
            WriteComment(@class);
            WriteLine($"[StructLayout(LayoutKind.Explicit, Size = {@class.Layout.Size})]");
            WriteLine($"internal unsafe struct {Names.Pascal(@class.OriginalName)}");
            WriteOpenBraceAndIndent();
            foreach (LayoutField layout in @class.Layout.Fields)
            {
                if (layout != @class.Layout.Fields[0])
                {
                    NewLine();
                }

                // Not by name: CppSharp renames fields that are called like a C# keyword.
                Field field = @class.Fields.Single(f => f.OriginalPtr == layout.FieldPtr);
                WriteComment(field);
                WriteLine($"[FieldOffset({layout.Offset})]");
                WriteLine($"internal {Printer.Member(field)};");
            }

            UnindentAndWriteCloseBrace();
        }
    }
}
