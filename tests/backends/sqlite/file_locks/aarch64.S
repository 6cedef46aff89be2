// The machine code of stateview/backends/sqlite/file_locks.py, whose docstring has it as a C function.
	.text
	sub w9, w1, #0x5
	cmp w9, #0x2
	b.hi .L8
	stp x29, x30, [sp, #-192]!
	mov x29, sp
	stp x19, x20, [sp, #16]
	stp x21, x22, [sp, #32]
	mov w19, w0
	mov w20, w1
	mov x21, x2
	mov w22, w0
	ldr x9, [x2, #16]
	cbz x9, .L1
	ldr x9, [x2, #8]
	mov x10, #0x40000000
	cmp x9, x10
	b.lt .L5
.L1:
	add x1, sp, #0x30
	ldr x9, .Lfstat
	blr x9
	cbnz w0, .L6
	ldr x9, .Ltable
.L2:
	ldr x10, [x9]
	cbz x10, .L6
	ldp x11, x12, [sp, #48]
	cmp x10, x12
	b.ne .L3
	ldr x10, [x9, #8]
	cmp x10, x11
	b.eq .L4
.L3:
	add x9, x9, #0x18
	b .L2
.L4:
	ldr w22, [x9, #16]
.L5:
	str wzr, [x21, #24]
	mov w0, w22
	add w1, w20, #0x1f
	mov x2, x21
	ldr x9, .Lfcntl
	blr x9
	cbnz w0, .L7
	cmp w20, #0x5
	b.eq .L7
	ldrh w9, [x21]
	cmp w9, #0x2
	b.ne .L7
	ldr x9, .Learly
	cbz x9, .L7
.L6:
	mov w0, w19
	mov w1, w20
	mov x2, x21
	ldr x9, .Lfcntl
	blr x9
.L7:
	ldp x19, x20, [sp, #16]
	ldp x21, x22, [sp, #32]
	ldp x29, x30, [sp], #192
	ret
.L8:
	ldr x9, .Lfcntl
	br x9
// file_locks.py writes these four numbers behind the code.
.Lfcntl:	.quad 0
.Lfstat:	.quad 0
.Ltable:	.quad 0
.Learly:	.quad 0
