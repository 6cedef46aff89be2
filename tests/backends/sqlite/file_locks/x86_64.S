# The machine code of stateview/backends/sqlite/file_locks.py, whose docstring has it as a C function.
	.text
	lea -0x5(%rsi),%eax
	cmp $0x2,%eax
	ja .L8
	push %rbx
	push %r12
	push %r13
	push %r14
	sub $0x98,%rsp
	mov %edi,%r12d
	mov %esi,%r13d
	mov %rdx,%r14
	mov %edi,%ebx
	cmpq $0x0,0x10(%rdx)
	je .L1
	cmpq $0x40000000,0x8(%rdx)
	jl .L5
.L1:
	mov %rsp,%rsi
	call *.Lfstat(%rip)
	test %eax,%eax
	jne .L6
	mov .Ltable(%rip),%rax
.L2:
	mov (%rax),%rcx
	test %rcx,%rcx
	je .L6
	cmp 0x8(%rsp),%rcx
	jne .L3
	mov 0x8(%rax),%rcx
	cmp (%rsp),%rcx
	je .L4
.L3:
	add $0x18,%rax
	jmp .L2
.L4:
	mov 0x10(%rax),%ebx
.L5:
	movl $0x0,0x18(%r14)
	mov %ebx,%edi
	lea 0x1f(%r13),%esi
	mov %r14,%rdx
	xor %eax,%eax
	call *.Lfcntl(%rip)
	test %eax,%eax
	jne .L7
	cmp $0x5,%r13d
	je .L7
	cmpw $0x2,(%r14)
	jne .L7
	cmpq $0x0,.Learly(%rip)
	je .L7
.L6:
	mov %r12d,%edi
	mov %r13d,%esi
	mov %r14,%rdx
	xor %eax,%eax
	call *.Lfcntl(%rip)
.L7:
	add $0x98,%rsp
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	ret
.L8:
	xor %eax,%eax
	jmp *.Lfcntl(%rip)
# file_locks.py writes these four numbers behind the code.
.Lfcntl:	.quad 0
.Lfstat:	.quad 0
.Ltable:	.quad 0
.Learly:	.quad 0
